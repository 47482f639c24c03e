//! A split virtqueue whose driver writes anything anywhere between the device's steps.

use bulkhead_memory::GuestMemory;
use bulkhead_virtqueue::{Chain, QueueFault, QueueSetup, SplitPosition, SplitQueue};

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
        let setup = QueueSetup {
            size: 1 << (draw.byte() % 8),
            addresses: guest::layout(1 << 7),
            event_idx: traits & 1 == 0,
            indirect: traits & 2 == 0,
        };
        let at = SplitPosition { available: draw.half(), used: draw.half() };
        let mut queue = SplitQueue::new(memory, &setup, at).expect("a queue in guest memory");
        let mut script =
            Script { memory, setup, next: at.available, chain: Chain::default(), taken: 0 };
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
    setup: QueueSetup,
    next: u16,
    chain: Chain,
    taken: u32,
}

impl Script<'_> {
    fn step(&mut self, queue: &mut SplitQueue, draw: &mut Draw<'_>) -> Result<(), QueueFault> {
        let driver = self.setup.addresses.driver;
        match draw.byte() % 10 {
            0 | 1 => guest::write_descriptor(self.memory, draw, false),
            2 => guest::write_descriptor(self.memory, draw, true),
            3 => {
                let entry = 4 + 2 * u64::from(self.next & (self.setup.size - 1));
                guest::write(self.memory, driver + entry, draw.bytes(2));
                self.next = self.next.wrapping_add(1);
                guest::write(self.memory, driver + 2, &self.next.to_le_bytes());
            }
            4 => {
                let at = u64::from(draw.byte());
                guest::write(self.memory, driver + at, draw.bytes(2));
            }
            5 | 6 => self.take(queue)?,
            7 => {
                queue.give_back(draw.below(guest::LARGEST) as u16, draw.word())?;
                queue.publish()?;
                queue.wants_call()?;
            }
            8 => queue.take_again(self.memory, draw.half(), &mut self.chain)?,
            _ => {
                queue.want_kicks()?;
                queue.forgo_kicks()?;
                queue.untake(draw.half());
            }
        }
        assert!(queue.in_flight() <= self.setup.size);
        Ok(())
    }

    fn take(&mut self, queue: &mut SplitQueue) -> Result<(), QueueFault> {
        if queue.take(self.memory, &mut self.chain)? {
            self.taken += 1;
            guest::check(&self.chain, self.memory);
        }
        Ok(())
    }
}

/// A chain of three, and one through an indirect table.
pub fn samples() -> Vec<Vec<u8>> {
    let descriptor = |index: u16, addr: u64, len: u32, flags: u16, next: u16| {
        let mut step = vec![0];
        step.extend(index.to_le_bytes());
        step.extend(addr.to_le_bytes());
        step.extend(len.to_le_bytes());
        step.extend([flags, next].map(u16::to_le_bytes).concat());
        step
    };
    let begin = [0, 7, 0, 0, 0, 0];
    let mut plain = begin.to_vec();
    plain.extend(descriptor(0, 0x10000, 16, 1, 1));
    plain.extend(descriptor(1, 0x11000, 4096, 1 | 2, 2));
    plain.extend(descriptor(2, 0x20000, 1, 2, 0));
    plain.extend([3, 0, 0, 5, 7, 0, 0, 0, 16, 0, 0, 9, 0, 0]);
    let mut indirect = begin.to_vec();
    indirect.extend(descriptor(0, guest::TABLES, 32, 4, 0));
    for (index, flags) in [(0, 1), (1, 2)] {
        let mut step = descriptor(index, 0x10000, 512, flags, 1);
        step[0] = 2;
        indirect.extend(step);
    }
    indirect.extend([3, 0, 0, 5, 7, 0, 0, 0, 2, 0, 0]);
    vec![plain, indirect]
}
