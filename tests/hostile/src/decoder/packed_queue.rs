//! A packed virtqueue whose driver writes anything anywhere between the device's steps.

use bulkhead_memory::GuestMemory;
use bulkhead_virtqueue::{Chain, PackedPosition, PackedQueue, QueueFault, QueueSetup};

use super::{Verdict, guest};
use crate::draw::Draw;

/// Steps of one script.
const MOST_STEPS: usize = 200;

thread_local! {
    static MEMORY: GuestMemory = guest::ram(guest::RAM).0;
}

/// Plays a script; the first fault ends it, as it ends a queue.
pub fn run(bytes: &[u8]) -> Verdict {
    MEMORY.with(|memory| {
        guest::clear(memory);
        let mut draw = Draw::new(bytes);
        let traits = draw.byte();
        let size = 1 + draw.below(guest::LARGEST) as u16;
        let setup = QueueSetup {
            size,
            addresses: guest::layout(size),
            event_idx: traits & 1 == 0,
            indirect: traits & 2 == 0,
        };
        let mut at = || PackedPosition { index: draw.half() % size, wrap: draw.byte() & 1 == 0 };
        let (available, used) = (at(), at());
        let mut queue =
            PackedQueue::new(memory, &setup, available, used).expect("a queue in guest memory");
        let mut script = Script { memory, size, chain: Chain::default(), taken: 0 };
        for _ in 0..MOST_STEPS {
            if draw.is_over() || script.step(&mut queue, &mut draw).is_err() {
                break;
            }
        }
        Verdict::accepted_if(script.taken > 0)
    })
}

struct Script<'a> {
    memory: &'a GuestMemory,
    size: u16,
    chain: Chain,
    taken: u32,
}

impl Script<'_> {
    fn step(&mut self, queue: &mut PackedQueue, draw: &mut Draw<'_>) -> Result<(), QueueFault> {
        match draw.byte() % 9 {
            0..=2 => guest::write_descriptor(self.memory, draw, false),
            3 => guest::write_descriptor(self.memory, draw, true),
            4 | 5 => {
                if queue.take(self.memory, &mut self.chain)? {
                    self.taken += 1;
                    guest::check(&self.chain, self.memory);
                    assert!(self.chain.slots() >= 1 && self.chain.slots() <= self.size);
                }
            }
            6 => {
                queue.give_back(self.chain.id(), self.chain.slots(), draw.word())?;
                queue.wants_call()?;
            }
            7 => {
                let at = PackedPosition { index: draw.half() % self.size, wrap: draw.flip() };
                queue.is_available(at)?;
                guest::write(self.memory, guest::layout(self.size).driver, draw.bytes(4));
            }
            _ => {
                queue.want_kicks()?;
                queue.forgo_kicks()?;
            }
        }
        assert!(queue.in_flight() <= self.size);
        Ok(())
    }
}

/// A chain of two that is given back, and one through an indirect table.
pub fn samples() -> Vec<Vec<u8>> {
    const AVAILABLE: u16 = 1 << 7;
    let descriptor = |index: u16, addr: u64, len: u32, id: u16, flags: u16| {
        let mut step = vec![0];
        step.extend(index.to_le_bytes());
        step.extend(addr.to_le_bytes());
        step.extend(len.to_le_bytes());
        step.extend([id, flags].map(u16::to_le_bytes).concat());
        step
    };
    // 8 descriptors, both positions at 0 in the first lap.
    let begin = [0, 7, 0, 0, 0, 0, 0, 0, 0];
    let mut plain = begin.to_vec();
    plain.extend(descriptor(0, 0x10000, 16, 0, AVAILABLE | 1));
    plain.extend(descriptor(1, 0x11000, 512, 5, AVAILABLE | 2));
    plain.extend([4, 6, 0, 2, 0, 0, 8]);
    let mut indirect = begin.to_vec();
    indirect.extend(descriptor(0, guest::TABLES, 32, 3, AVAILABLE | 4));
    for (index, flags) in [(0, 0), (1, 2)] {
        let mut step = descriptor(index, 0x10000, 512, 0, flags);
        step[0] = 3;
        indirect.extend(step);
    }
    indirect.extend([4, 6, 0, 2, 0, 0, 8]);
    vec![plain, indirect]
}
