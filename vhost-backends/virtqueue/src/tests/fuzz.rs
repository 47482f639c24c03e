//! Random rings: whatever stands in them, a queue answers with a chain or a fault, in bounded time.
//!
//! `BULKHEAD_CHAINS` sets how many chains are tried (100,000 by default; tens of millions take
//! minutes).

use bulkhead_memory::GuestRange;

use super::*;

/// xorshift64*: fast, and a failure is repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// Numbers that are likely to be near a border.
    fn odd_number(&mut self, natural: u64) -> u64 {
        match self.below(12) {
            0 => self.roll(),
            1 => u64::MAX - self.below(64),
            2 => 0,
            3 => RAM - self.below(64),
            _ => self.below(natural),
        }
    }
}

fn chains() -> u64 {
    std::env::var("BULKHEAD_CHAINS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Bytes of a descriptor that is nearly plausible, of either kind: flags stand at 12 or 14.
fn descriptor(dice: &mut Dice, size: u16, flags_at: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    let addr = match dice.below(4) {
        0 => DATA + 16 * dice.below(1024),
        _ => dice.odd_number(RAM),
    };
    let len = match dice.below(4) {
        0 => 16 * dice.below(70),
        _ => dice.odd_number(5000),
    };
    bytes[..8].copy_from_slice(&addr.to_le_bytes());
    bytes[8..12].copy_from_slice(&(len as u32).to_le_bytes());
    let other = dice.odd_number(u64::from(size) + 1) as u16;
    let flags = match dice.below(8) {
        0 => dice.roll() as u16,
        _ => dice.below(8) as u16 | (dice.roll() as u16 & 0x8080),
    };
    let (flags_at, other_at) = if flags_at == 12 { (12, 14) } else { (14, 12) };
    bytes[flags_at..flags_at + 2].copy_from_slice(&flags.to_le_bytes());
    bytes[other_at..other_at + 2].copy_from_slice(&other.to_le_bytes());
    bytes
}

/// Scribbles over a queue and the tables it may point to.
fn scribble(dice: &mut Dice, memory: &GuestMemory, size: u16, flags_at: usize) {
    for _ in 0..=dice.below(4) {
        let table = if dice.below(3) == 0 { DATA } else { QUEUE };
        let index = dice.below(u64::from(size));
        let place = memory.check(GuestRange::new(table + 16 * index, 16)).unwrap();
        place.copy_out(&descriptor(dice, size, flags_at)).unwrap();
    }
    let rings = layout(QUEUE, size);
    let place = memory.check(GuestRange::new(rings.driver, 6 + 2 * u64::from(size))).unwrap();
    let entry = 4 + 2 * dice.below(u64::from(size) + 1) as usize;
    place.write_obj(entry, dice.odd_number(u64::from(size) + 1) as u16).unwrap();
    place.write_obj(0, dice.below(4) as u16).unwrap();
}

fn check(chain: &Chain, memory: &GuestMemory) {
    chain.lies_in(memory).unwrap();
    assert!(chain.readable.ranges().len() + chain.writable.ranges().len() <= 1024);
    let mut bytes = [0; 64];
    let len = chain.readable.len().min(64) as usize;
    chain.readable.copy_in(memory, 0, &mut bytes[..len]).unwrap();
    let len = chain.writable.len().min(64) as usize;
    // Writes may hit the rings themselves, as a guest may want; that must do no harm.
    chain.writable.copy_out(memory, chain.writable.len() - len as u64, &bytes[..len]).unwrap();
}

#[test]
fn split_rings_full_of_nonsense_give_chains_or_faults() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut chain = Chain::default();
    let (mut took, mut faults) = (0u64, 0u64);
    while took + faults < chains() {
        let size = 1 << dice.below(8);
        let (memory, _fd) = ram(RAM);
        let setup = QueueSetup { indirect: dice.below(8) > 0, ..setup(size, dice.below(2) == 0) };
        for _ in 0..2000 {
            let at = SplitPosition { available: dice.roll() as u16, used: dice.roll() as u16 };
            let mut queue = SplitQueue::new(&memory, &setup, at).unwrap();
            let mut index = at.available;
            for _ in 0..dice.below(12) {
                scribble(&mut dice, &memory, size, 12);
                index =
                    if dice.below(20) == 0 { dice.roll() as u16 } else { index.wrapping_add(1) };
                let place = GuestRange::new(setup.addresses.driver + 2, 2);
                memory.check(place).unwrap().write_obj(0, index).unwrap();
                match queue.take(&memory, &mut chain) {
                    Ok(true) => took += 1,
                    Ok(false) => continue,
                    Err(_) => {
                        faults += 1;
                        break;
                    }
                }
                check(&chain, &memory);
                assert!(queue.in_flight() <= size);
                if dice.below(3) > 0 {
                    queue.give_back(chain.id(), dice.roll() as u32).unwrap();
                    queue.publish().unwrap();
                    queue.wants_call().unwrap();
                }
                let _ = queue.want_kicks();
                queue.forgo_kicks().unwrap();
            }
        }
    }
    assert!(took > chains() / 50, "the fuzzer must get somewhere: {took} of {}", took + faults);
}

#[test]
fn packed_rings_full_of_nonsense_give_chains_or_faults() {
    let mut dice = Dice(0xd1b5_4a32_d192_ed03);
    let mut chain = Chain::default();
    let (mut took, mut faults) = (0u64, 0u64);
    while took + faults < chains() {
        let size = 1 + dice.below(130) as u16;
        let (memory, _fd) = ram(RAM);
        let setup = QueueSetup { indirect: dice.below(8) > 0, ..setup(size, dice.below(2) == 0) };
        for _ in 0..2000 {
            let at = |dice: &mut Dice| PackedPosition {
                index: dice.below(u64::from(size)) as u16,
                wrap: dice.below(2) == 0,
            };
            let (available, used) = (at(&mut dice), at(&mut dice));
            let mut queue = PackedQueue::new(&memory, &setup, available, used).unwrap();
            for _ in 0..dice.below(24) {
                scribble(&mut dice, &memory, size, 14);
                match queue.take(&memory, &mut chain) {
                    Ok(true) => took += 1,
                    Ok(false) => continue,
                    Err(_) => {
                        faults += 1;
                        break;
                    }
                }
                check(&chain, &memory);
                assert!(queue.in_flight() <= size);
                if dice.below(3) > 0 {
                    queue.give_back(chain.id(), chain.slots(), dice.roll() as u32).unwrap();
                    queue.wants_call().unwrap();
                }
                queue.want_kicks().unwrap();
                queue.forgo_kicks().unwrap();
            }
        }
    }
    assert!(took > chains() / 50, "the fuzzer must get somewhere: {took} of {}", took + faults);
}

#[test]
fn a_guest_that_writes_while_the_device_reads_gets_chains_or_faults() {
    let (memory, _fd) = ram(RAM);
    let setup = setup(16, true);
    let at = PackedPosition::START;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut dice = Dice(7);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags_at = if dice.below(2) == 0 { 12 } else { 14 };
                scribble(&mut dice, &memory, 16, flags_at);
                let place = GuestRange::new(setup.addresses.driver + 2, 2);
                let index = dice.roll() as u16;
                memory.check(place).unwrap().write_obj(0, index).unwrap();
            }
        });
        let mut chain = Chain::default();
        for _ in 0..chains() / 4 {
            let position = SplitPosition { available: 0, used: 0 };
            let mut split = SplitQueue::new(&memory, &setup, position).unwrap();
            let mut packed = PackedQueue::new(&memory, &setup, at, at).unwrap();
            while let Ok(true) = split.take(&memory, &mut chain) {
                chain.lies_in(&memory).unwrap();
            }
            while let Ok(true) = packed.take(&memory, &mut chain) {
                chain.lies_in(&memory).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
