//! The `virtio-queue` crate as a second device on the same memory: both must see the same chains.

use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::*;

proptest! {
    #[test]
    fn a_stranger_sees_the_same_chains(
        event_idx: bool,
        requests in prop::collection::vec(
            (prop::collection::vec((0u64..0x1000, 1u32..9000), 1..5), 0usize..5, 0usize..3),
            1..20,
        ),
    ) {
        let (memory, _fd) = ram(RAM);
        let setup = setup(64, event_idx);
        let mut driver = SplitDriver::new(&memory, setup);
        let at = SplitPosition { available: 0, used: 0 };
        let mut ours = SplitQueue::new(&memory, &setup, at).unwrap();
        let mut theirs = Queue::new(64).unwrap();
        theirs.set_size(64);
        theirs.try_set_desc_table_address(GuestAddress(setup.addresses.descriptors)).unwrap();
        theirs.try_set_avail_ring_address(GuestAddress(setup.addresses.driver)).unwrap();
        theirs.try_set_used_ring_address(GuestAddress(setup.addresses.device)).unwrap();
        theirs.set_event_idx(event_idx);
        theirs.set_ready(true);
        let mut added = 0;
        for (number, (pieces, writes_from, lead)) in requests.iter().enumerate() {
            let segments: Vec<_> = pieces.iter().enumerate().map(|(at, (addr, len))| Segment {
                addr: DATA + addr,
                len: *len,
                device_writes: at >= *writes_from,
            }).collect();
            let table = DATA + 0x20000 + 256 * number as u64;
            let by_table = driver.add_indirect(&segments, *lead, table);
            if by_table.or_else(|| driver.add(&segments)).is_some() {
                added += 1;
            }
        }
        let mut chain = Chain::default();
        for _ in 0..added {
            prop_assert!(ours.take(&memory, &mut chain).unwrap());
            let stranger = theirs.pop_descriptor_chain(memory.inner()).unwrap();
            prop_assert_eq!(stranger.head_index(), chain.id());
            let all: Vec<_> = stranger.collect();
            let of_kind = |writes: bool| all.iter()
                .filter(move |descriptor| descriptor.is_write_only() == writes)
                .map(|descriptor| (descriptor.addr().0, u64::from(descriptor.len())))
                .collect::<Vec<_>>();
            let pairs = |scatter: &crate::Scatter| scatter.ranges().iter()
                .map(|range| (range.addr, range.len)).collect::<Vec<_>>();
            prop_assert_eq!(pairs(&chain.readable), of_kind(false));
            prop_assert_eq!(pairs(&chain.writable), of_kind(true));
        }
        prop_assert!(!ours.take(&memory, &mut chain).unwrap());
        prop_assert!(theirs.pop_descriptor_chain(memory.inner()).is_none());
    }
}
