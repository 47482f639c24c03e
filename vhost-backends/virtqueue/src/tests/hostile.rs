use bulkhead_memory::{GuestRange, OutOfRange, RamRegion, Rights};
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT as INDIRECT, VRING_DESC_F_NEXT as NEXT, VRING_DESC_F_WRITE as WRITE,
};

use super::*;
use crate::{PackedDescriptor, SplitDescriptor};

const SIZE: u16 = 8;

/// A split queue whose driver writes what it likes.
struct Liar {
    memory: GuestMemory,
    _fd: std::os::fd::OwnedFd,
    queue: SplitQueue,
    available: u16,
}

impl Liar {
    fn new() -> Self {
        let (memory, fd) = ram(RAM);
        let at = SplitPosition { available: 0, used: 0 };
        let queue = SplitQueue::new(&memory, &setup(SIZE, false), at).unwrap();
        Self { memory, _fd: fd, queue, available: 0 }
    }

    fn descriptor(&self, table: u64, index: u64, descriptor: (u64, u32, u32, u16)) {
        let (addr, len, flags, next) = descriptor;
        let place = self.memory.check(GuestRange::new(table + 16 * index, 16)).unwrap();
        place.write_obj(0, SplitDescriptor::new(addr, len, flags as u16, next)).unwrap();
    }

    fn offer(&mut self, head: u16) {
        let ring = layout(QUEUE, SIZE).driver;
        let place = self.memory.check(GuestRange::new(ring, 4 + 2 * u64::from(SIZE))).unwrap();
        let at = 4 + 2 * usize::from(self.available % SIZE);
        place.write_obj(at, head).unwrap();
        self.available = self.available.wrapping_add(1);
        place.write_obj(2, self.available).unwrap();
    }

    fn offer_chain(&mut self, chain: &[(u64, u32, u32, u16)]) {
        for (index, descriptor) in chain.iter().enumerate() {
            self.descriptor(QUEUE, index as u64, *descriptor);
        }
        self.offer(0);
    }

    fn take(&mut self) -> Result<bool, QueueFault> {
        self.queue.take(&self.memory, &mut Chain::default())
    }

    fn refuses(chain: &[(u64, u32, u32, u16)]) -> QueueFault {
        let mut liar = Self::new();
        liar.offer_chain(chain);
        liar.take().unwrap_err()
    }

    /// What is said of an indirect table.
    fn refuses_table(entries: &[(u64, u32, u32, u16)], len: u32) -> QueueFault {
        let mut liar = Self::new();
        for (index, entry) in entries.iter().enumerate() {
            liar.descriptor(DATA, index as u64, *entry);
        }
        liar.offer_chain(&[(DATA, len, INDIRECT, 0)]);
        liar.take().unwrap_err()
    }
}

#[test]
fn a_chain_that_loops_is_refused_and_blames_the_guest() {
    let loops = [(DATA, 1, NEXT, 1), (DATA, 1, NEXT, 0)];
    assert_eq!(Liar::refuses(&loops), QueueFault::Endless(8));
    assert_eq!(Liar::refuses_table(&loops, 32), QueueFault::Endless(2));
}

#[test]
fn links_and_heads_outside_the_table_are_refused() {
    let fault = Liar::refuses(&[(DATA, 1, NEXT, 8)]);
    assert_eq!(fault, QueueFault::NoDescriptor { index: 8, size: 8 });
    let fault = Liar::refuses_table(&[(DATA, 1, NEXT, 2), (DATA, 1, 0, 0)], 32);
    assert_eq!(fault, QueueFault::NoDescriptor { index: 2, size: 2 });
    let mut liar = Liar::new();
    liar.offer(SIZE);
    assert_eq!(liar.take(), Err(QueueFault::NoDescriptor { index: 8, size: 8 }));
}

#[test]
fn buffers_outside_memory_are_refused() {
    for (addr, len) in [(RAM - 1, 2), (RAM, 1), (u64::MAX, 1), (u64::MAX - 1, u32::MAX)] {
        let fault = Liar::refuses(&[(addr, len, 0, 0)]);
        assert_eq!(fault, QueueFault::Buffer(GuestRange::new(addr, len.into())));
    }
}

#[test]
fn an_index_that_jumps_is_refused() {
    let mut liar = Liar::new();
    liar.available = SIZE;
    liar.offer(0);
    let fault = QueueFault::IndexJump { seen: 0, now: SIZE + 1, size: SIZE };
    assert_eq!(liar.take(), Err(fault));
    // Backwards.
    liar.available = u16::MAX - 1;
    liar.offer(0);
    assert!(liar.take().is_err());
}

#[test]
fn a_head_that_is_in_flight_is_refused() {
    let mut liar = Liar::new();
    liar.offer_chain(&[(DATA, 1, 0, 0)]);
    assert_eq!(liar.take(), Ok(true));
    liar.offer(0);
    assert_eq!(liar.take(), Err(QueueFault::InFlight(0)));
}

#[test]
fn nested_continued_unexpected_and_ragged_indirect_tables_are_refused() {
    let nested = [(DATA, 16, INDIRECT, 0)];
    assert_eq!(Liar::refuses_table(&nested, 16), QueueFault::NestedIndirect);
    let continued = [(DATA, 16, INDIRECT | NEXT, 1), (DATA, 1, 0, 0)];
    assert_eq!(Liar::refuses(&continued), QueueFault::IndirectWithNext);
    for len in [0, 1, 15, 17, u32::MAX] {
        assert_eq!(Liar::refuses_table(&[(DATA, 1, 0, 0)], len), QueueFault::IndirectLength(len));
    }
    let mut liar = Liar::new();
    let plain = QueueSetup { indirect: false, ..setup(SIZE, false) };
    let at = SplitPosition { available: 0, used: 0 };
    liar.queue = SplitQueue::new(&liar.memory, &plain, at).unwrap();
    liar.offer_chain(&[(DATA, 16, INDIRECT, 0)]);
    assert_eq!(liar.take(), Err(QueueFault::UnexpectedIndirect));
}

#[test]
fn an_endless_or_absent_indirect_table_is_refused_before_it_is_copied() {
    let endless = Liar::refuses_table(&[(DATA, 1, 0, 0)], 1025 * 16);
    assert_eq!(endless, QueueFault::Endless(1024));
    let absent = Liar::refuses(&[(RAM, 16, INDIRECT, 0)]);
    assert!(matches!(absent, QueueFault::NotMemory(OutOfRange { .. })));
}

#[test]
fn reading_after_writing_and_more_than_four_gib_are_refused() {
    let fault = Liar::refuses(&[(DATA, 1, WRITE | NEXT, 1), (DATA, 1, 0, 0)]);
    assert_eq!(fault, QueueFault::ReadAfterWrite);
    // 1024 descriptors of nearly all memory exceed 2³² bytes.
    let mut liar = Liar::new();
    let memory = liar.memory.clone();
    let (big, len) = (16 << 20, 8 << 20);
    let fd = bulkhead_sys::memfd::create_sealed("more", len).unwrap();
    let more = RamRegion { guest_addr: big, len, file_offset: 0 };
    let fd = std::os::fd::AsFd::as_fd(&fd);
    liar.memory = memory.with_region(more, fd, Rights::ReadWrite).unwrap();
    for index in 0..1024 {
        liar.descriptor(DATA, index, (big, len as u32, NEXT, index as u16 + 1));
    }
    liar.offer_chain(&[(DATA, 1024 * 16, INDIRECT, 0)]);
    assert_eq!(liar.take(), Err(QueueFault::TooLong((1 << 32) + len)));
}

#[test]
fn a_buffer_and_a_table_may_cross_from_one_region_into_the_next() {
    let mut liar = Liar::new();
    let fd = bulkhead_sys::memfd::create_sealed("more", 4096).unwrap();
    let more = RamRegion { guest_addr: RAM, len: 4096, file_offset: 0 };
    let fd = std::os::fd::AsFd::as_fd(&fd);
    let whole = liar.memory.with_region(more, fd, Rights::ReadWrite).unwrap();
    let (table, buffer) = (RAM - 24, GuestRange::new(RAM - 8, 4000));
    liar.memory = whole;
    // The second entry lies in both regions: eight bytes in each.
    let entry = SplitDescriptor::new(buffer.addr, 4000, WRITE as u16, 0);
    let bytes = bulkhead_memory::ByteValued::as_slice(&entry);
    liar.descriptor(table, 0, (DATA, 7, NEXT, 1));
    for (at, half) in [(table + 16, &bytes[..8]), (RAM, &bytes[8..])] {
        liar.memory.check(GuestRange::new(at, 8)).unwrap().copy_out(half).unwrap();
    }
    liar.offer_chain(&[(table, 32, INDIRECT, 0)]);
    let mut chain = Chain::default();
    assert_eq!(liar.queue.take(&liar.memory, &mut chain), Ok(true));
    assert_eq!(chain.writable.ranges(), [buffer]);
    let pattern: Vec<u8> = (0..4000u32).map(|at| at as u8).collect();
    chain.writable.copy_out(&liar.memory, 0, &pattern).unwrap();
    let mut back = vec![0; 4000];
    chain.writable.copy_in(&liar.memory, 0, &mut back).unwrap();
    assert_eq!(back, pattern);
}

#[test]
fn rings_that_cannot_be_are_refused() {
    let (memory, _fd) = ram(RAM);
    let new = |setup: QueueSetup| {
        SplitQueue::new(&memory, &setup, SplitPosition { available: 0, used: 0 })
    };
    for size in [0, 3, 32769] {
        assert_eq!(new(setup(size, false)).unwrap_err(), QueueFault::Size(size));
    }
    let mut skew = setup(SIZE, false);
    skew.addresses.device += 2;
    assert!(matches!(new(skew), Err(QueueFault::Misaligned { align: 4, .. })));
    let mut outside = setup(SIZE, false);
    outside.addresses.descriptors = RAM - 16;
    assert!(matches!(new(outside), Err(QueueFault::NotMemory(_))));
    let at = PackedPosition { index: SIZE, wrap: true };
    assert!(PackedQueue::new(&memory, &setup(SIZE, false), at, at).is_err());
}

#[test]
fn a_packed_chain_that_never_ends_is_refused() {
    let (memory, _fd) = ram(RAM);
    let at = PackedPosition::START;
    let mut queue = PackedQueue::new(&memory, &setup(SIZE, false), at, at).unwrap();
    for index in 0..u64::from(SIZE) {
        let place = memory.check(GuestRange::new(QUEUE + 16 * index, 16)).unwrap();
        let entry = PackedDescriptor::new(DATA, 1, 0, NEXT as u16 | 1 << 7);
        place.write_obj(0, entry).unwrap();
    }
    let mut chain = Chain::default();
    assert_eq!(queue.take(&memory, &mut chain), Err(QueueFault::Endless(8)));
}

#[test]
fn a_packed_driver_that_offers_more_than_there_are_places_is_refused() {
    let (memory, _fd) = ram(RAM);
    let mut pair = Pair::new(&memory, setup(2, false), true);
    let mut chain = Chain::default();
    pair.add(&[Segment::read(DATA, 1)]).unwrap();
    assert_eq!(pair.take(&memory, &mut chain), Ok(true));
    // One place is left, the chain needs two.
    let entry = PackedDescriptor::new(DATA, 1, 7, NEXT as u16 | 1 << 7);
    memory.check(GuestRange::new(QUEUE + 16, 16)).unwrap().write_obj(0, entry).unwrap();
    assert_eq!(pair.take(&memory, &mut chain), Err(QueueFault::Endless(1)));
}

#[test]
fn a_full_packed_ring_has_nothing_available_whatever_it_says() {
    let (memory, _fd) = ram(RAM);
    let mut pair = Pair::new(&memory, setup(1, false), true);
    let mut chain = Chain::default();
    pair.add(&[Segment::read(DATA, 1)]).unwrap();
    assert_eq!(pair.take(&memory, &mut chain), Ok(true));
    // The place of the chain in flight says that it is available in the next lap.
    let entry = PackedDescriptor::new(DATA, 1, 7, 1 << 15);
    memory.check(GuestRange::new(QUEUE, 16)).unwrap().write_obj(0, entry).unwrap();
    assert_eq!(pair.take(&memory, &mut chain), Ok(false));
    assert!(!pair.want_kicks());
}
