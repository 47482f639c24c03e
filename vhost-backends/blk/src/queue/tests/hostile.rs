//! Guests that write anything: the block layer sees legal requests only, and the device goes on.
//!
//! `BULKHEAD_CHAINS` sets how many chains are tried (20,000 by default).

use std::sync::atomic::Ordering;

use super::*;

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

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn chains() -> u64 {
    std::env::var("BULKHEAD_CHAINS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// A header of a request that may make sense.
fn header(dice: &mut Dice) -> [u8; 16] {
    let kind = dice.one_of(&[IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, 2, u32::MAX]);
    let sector = match dice.below(6) {
        0 => dice.roll(),
        1 => DISK / 512 - dice.below(4),
        _ => dice.below(DISK / 512),
    };
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

fn descriptor(dice: &mut Dice, slot: u64) -> [u8; 16] {
    let addr = match dice.below(8) {
        0 => dice.roll(),
        1 => RAM - dice.below(5000),
        2 => QUEUE + dice.below(4096),
        3..5 => HEADERS + 64 * dice.below(64),
        _ => DATA + 512 * dice.below(4096),
    };
    let len = match dice.below(10) {
        0 => dice.roll() as u32,
        1 => 1,
        2..6 => 16,
        6 => 1 << 20,
        _ => 512 * dice.below(64) as u32,
    };
    let flags = dice.one_of(&[1u16, 1, 3, 3, 0, 2, 2, 4, 5]);
    let next = if dice.below(20) == 0 { dice.roll() } else { (slot + 1) % u64::from(SIZE) } as u16;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&addr.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

fn plain(addr: u64, len: u32, flags: u16, next: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&addr.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&((next % u64::from(SIZE)) as u16).to_le_bytes());
    bytes
}

/// A request as a driver would make it, with a descriptor of nonsense now and then; answers its head.
fn chain(dice: &mut Dice, rig: &Rig) -> u16 {
    let (first, header_at) = (dice.below(SIZE.into()), HEADERS + 64 * dice.below(64));
    rig.put(header_at, &header(dice));
    let (pieces, writes) = (dice.below(5), dice.below(2) as u16 * 2);
    let mut descriptors = vec![plain(header_at, 16, 1, first + 1)];
    for piece in 1..=pieces {
        let len = 512 * (1 + dice.below(40)) as u32;
        let data = DATA + 512 * dice.below(4096);
        descriptors.push(plain(data, len, 1 | writes, first + piece + 1));
    }
    descriptors.push(plain(header_at + 32, 1, 2, 0));
    if dice.below(4) == 0 {
        let place = dice.below(descriptors.len() as u64);
        descriptors[place as usize] = descriptor(dice, first + place);
    }
    for (slot, bytes) in (first..).zip(descriptors) {
        rig.put(QUEUE + 16 * (slot % u64::from(SIZE)), &bytes);
    }
    first as u16
}

/// What block-layer itself insists on.
fn assert_legal(request: &BlockRequest, arena: u64) {
    let operation = request.operation().expect("a known operation");
    let end = request.offset.checked_add(request.len.into()).unwrap();
    assert!(
        end <= DISK && request.offset.is_multiple_of(512) && request.len.is_multiple_of(512),
        "{request:?}"
    );
    match operation {
        Operation::Read | Operation::Write => {
            assert!((512..=1 << 20).contains(&request.len), "{request:?}");
            assert!(u64::from(request.span) + u64::from(request.len) <= arena, "{request:?}");
        }
        Operation::Flush => assert_eq!((request.offset, request.len), (0, 0)),
        _ => assert!(request.len > 0 && request.len <= 1 << 31, "{request:?}"),
    }
    assert!(request.flags & !FLAG_FUA == 0 && request.reserved == [0; 6]);
}

#[test]
fn whatever_a_guest_writes_the_block_layer_sees_legal_requests_only() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut rig = Rig::new(false, info());
    let (mut tried, mut reached) = (0, 0u64);
    while tried < chains() {
        let queue = rig.queues[0].as_ref().unwrap();
        if queue.is_broken() {
            // The driver resets the device: fresh rings, a fresh table.
            rig.put(QUEUE, &[0; 4096]);
            rig.put(layout(QUEUE, SIZE).device, &[0; 1024]);
            rig.table = create_sealed("inflight", table_size(1, SIZE)).unwrap();
            rig.succeed(false);
        }
        let head = chain(&mut dice, &rig);
        let rings = layout(QUEUE, SIZE).driver;
        let place = rig.memory.check(GuestRange::new(rings, 4 + 2 * u64::from(SIZE))).unwrap();
        let index = place.load_u16(2, Ordering::Relaxed).unwrap();
        place.write_obj(4 + 2 * usize::from(index % SIZE), head).unwrap();
        place.write_obj(2, index.wrapping_add(1)).unwrap();
        tried += 1;
        rig.serve();
        rig.layer.take();
        let arena = rig.geometry.arena_len();
        rig.layer.seen.drain(..).for_each(|request| assert_legal(&request, arena));
        reached += rig.layer.held.len() as u64;
        if dice.below(4) > 0 {
            rig.settle();
            rig.layer.seen.drain(..).for_each(|request| assert_legal(&request, arena));
        }
    }
    assert!(reached > chains() / 20, "the fuzzer must get somewhere: {reached} of {tried}");
}
