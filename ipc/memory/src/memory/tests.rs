//! Range checks, and what regions may look like.

use std::os::fd::AsFd;

use bulkhead_sys::mapping::SharedMapping;
use bulkhead_sys::memfd::create_sealed;
use proptest::prelude::*;
use vm_memory::Bytes;

use std::sync::atomic::Ordering;

use super::*;
use crate::{AccessError, Grant, RamLayout};

const PAGE: u64 = 4096;

/// Four pages with a hole: guest 0x0000..0x2000 and 0x4000..0x6000.
fn holey() -> [RamRegion; 2] {
    let low = RamRegion { guest_addr: 0, len: 2 * PAGE, file_offset: 0 };
    let high = RamRegion { guest_addr: 4 * PAGE, len: 2 * PAGE, file_offset: 2 * PAGE };
    [low, high]
}

fn memory(regions: &[RamRegion], rights: Rights) -> GuestMemory {
    let end = regions.iter().map(|region| region.file_offset + region.len).max().unwrap();
    let fd = create_sealed("ram", end).unwrap();
    GuestMemory::map(fd.as_fd(), regions, rights).unwrap()
}

fn holey_memory() -> GuestMemory {
    memory(&holey(), Rights::ReadWrite)
}

fn fault(result: Result<GuestMemory, MapError>) -> RegionFault {
    match result {
        Err(MapError::Peer { fault, .. }) => fault,
        other => panic!("expected a faulty region, got {other:?}"),
    }
}

#[test]
fn bytes_written_through_one_mapping_are_read_through_another() {
    let layout = RamLayout::new(1 << 20).unwrap();
    let fd = create_sealed("ram", layout.total()).unwrap();
    let writer = Grant::whole(&layout, Rights::ReadWrite).map(&fd).unwrap();
    let reader = Grant::whole(&layout, Rights::ReadOnly).map(&fd).unwrap();
    drop(fd);
    let range = GuestRange::new(0x1ffd, 6);
    writer.check(range).unwrap().copy_out(b"across").unwrap();
    let mut back = [0; 6];
    reader.check(range).unwrap().copy_in(&mut back).unwrap();
    assert_eq!(&back, b"across");
}

#[test]
fn a_range_up_to_the_end_is_good_and_one_byte_more_is_refused_with_what_there_is() {
    let memory = holey_memory();
    assert_eq!(memory.check(GuestRange::new(0, 2 * PAGE)).unwrap().len(), 8192);
    let range = GuestRange::new(PAGE, PAGE + 1);
    assert_eq!(memory.check(range).unwrap_err(), OutOfRange { range, available: PAGE });
}

#[test]
fn ranges_in_the_hole_behind_the_end_and_across_are_refused() {
    let memory = holey_memory();
    for (addr, len) in [(0x2000, 1), (0x3fff, 1), (0x6000, 1), (0x1000, 0x4000), (u64::MAX, 1)] {
        assert!(memory.check(GuestRange::new(addr, len)).is_err(), "{addr:#x}+{len:#x}");
    }
}

#[test]
fn a_length_that_overflows_is_refused() {
    let memory = holey_memory();
    for len in [u64::MAX, u64::MAX - 0xfff, u64::MAX - 0x1000] {
        let range = GuestRange::new(0x1000, len);
        assert_eq!(memory.check(range).unwrap_err(), OutOfRange { range, available: PAGE });
    }
}

#[test]
fn an_empty_range_must_start_inside_and_touches_nothing() {
    let memory = holey_memory();
    let slice = memory.check(GuestRange::new(0x1fff, 0)).unwrap();
    assert!(slice.is_empty());
    assert!(slice.copy_out(&[1]).is_err());
    assert!(memory.check(GuestRange::new(0x2000, 0)).is_err());
}

#[test]
fn a_range_over_two_adjacent_regions_has_no_slice_but_pieces() {
    let first = RamRegion { guest_addr: 0, len: PAGE, file_offset: PAGE };
    let second = RamRegion { guest_addr: PAGE, len: PAGE, file_offset: 0 };
    let memory = memory(&[second, first], Rights::ReadWrite);
    let range = GuestRange::new(PAGE - 2, 4);
    assert!(memory.check(range).is_err());
    let pieces: Vec<_> = memory.pieces(range).map(Result::unwrap).collect();
    let shape: Vec<_> = pieces.iter().map(|piece| (piece.addr(), piece.len())).collect();
    assert_eq!(shape, [(PAGE - 2, 2), (PAGE, 2)]);
    pieces[1].copy_out(b"ab").unwrap();
    assert_eq!(memory.check(GuestRange::new(PAGE, 2)).unwrap().read_obj::<[u8; 2]>(0), Ok(*b"ab"));
}

#[test]
fn pieces_end_at_a_hole_with_one_error() {
    let memory = holey_memory();
    let mut pieces = memory.pieces(GuestRange::new(PAGE, 4 * PAGE));
    assert_eq!(pieces.next().unwrap().unwrap().len(), 4096);
    assert_eq!(pieces.next().unwrap().unwrap_err().available, 0);
    assert!(pieces.next().is_none());
}

#[test]
fn faulty_regions_are_refused_before_they_are_mapped() {
    let fd = create_sealed("ram", PAGE).unwrap();
    let region = |guest_addr, len, file_offset| RamRegion { guest_addr, len, file_offset };
    let map = |regions: &[RamRegion]| GuestMemory::map(fd.as_fd(), regions, Rights::ReadWrite);
    assert_eq!(fault(map(&[region(0, 0, 0)])), RegionFault::Empty);
    assert_eq!(fault(map(&[region(u64::MAX, 1, 0)])), RegionFault::Overflow);
    assert_eq!(fault(map(&[region(0, PAGE, u64::MAX)])), RegionFault::Overflow);
    assert_eq!(fault(map(&[region(0, 2, 0), region(1, 2, 0)])), RegionFault::Overlap);
    assert_eq!(fault(map(&[region(8, 8, 0), region(0, 64, 0)])), RegionFault::Overlap);
}

#[test]
fn a_region_too_long_for_an_address_space_is_the_hosts_refusal() {
    let fd = create_sealed("ram", PAGE).unwrap();
    let region = RamRegion { guest_addr: 0, len: 1 << 62, file_offset: 4 };
    let result = GuestMemory::map(fd.as_fd(), &[region], Rights::ReadWrite);
    assert!(matches!(result, Err(MapError::Host { .. })));
}

#[test]
fn a_region_may_start_inside_a_page_of_its_object() {
    let region = RamRegion { guest_addr: 0x8000, len: 100, file_offset: PAGE + 100 };
    let fd = create_sealed("ram", 2 * PAGE).unwrap();
    let whole = SharedMapping::map(&fd, 2 * PAGE as usize, Rights::ReadWrite).unwrap();
    let memory = GuestMemory::map_regions(vec![(region, fd)], Rights::ReadWrite).unwrap();
    memory.check(GuestRange::new(0x8000, 3)).unwrap().copy_out(b"abc").unwrap();
    let mut there = [0; 3];
    whole.copy_in(4196, &mut there).unwrap();
    assert_eq!(&there, b"abc");
}

#[test]
fn regions_come_and_go_while_a_window_keeps_its_own() {
    let [low, high] = holey();
    let memory = holey_memory();
    let window = memory.hold(GuestRange::new(high.guest_addr, 4)).unwrap();
    window.slice().write_obj(0, 7u32).unwrap();
    let smaller = memory.without_region(high.guest_addr, high.len).unwrap();
    drop(memory);
    assert!(smaller.check(window.range()).is_err());
    assert_eq!(window.slice().read_obj(0), Ok(7u32));
    assert_eq!(fault(smaller.without_region(low.guest_addr, PAGE)), RegionFault::Unknown);
    let none = smaller.without_region(low.guest_addr, low.len).unwrap();
    assert_eq!(none.regions().count(), 0);
    assert!(none.check(GuestRange::new(0, 0)).is_err());
}

#[test]
fn a_read_only_grant_refuses_every_store() {
    let memory = memory(&holey(), Rights::ReadOnly);
    let arena = create_sealed("arena", PAGE).unwrap();
    let arena = SharedMapping::map(arena, 4096, Rights::ReadWrite).unwrap();
    let slice = memory.check(GuestRange::new(0x4000, 8)).unwrap();
    let refused = Err(AccessError::ReadOnly { addr: 0x4000 });
    assert_eq!(slice.copy_out(&[1]), refused);
    assert_eq!(slice.write_obj(0, 1u64), refused);
    assert_eq!(slice.store_u16(0, 1, Ordering::Release), refused);
    assert_eq!(slice.zero(), refused);
    assert_eq!(slice.copy_from_mapping(&arena, 0), refused);
    assert_eq!(slice.copy_to_mapping(&arena, 0), Ok(()));
    assert_eq!(slice.load_u32(0, Ordering::Acquire), Ok(0));
}

#[test]
fn words_must_be_aligned_and_inside() {
    let memory = holey_memory();
    let slice = memory.check(GuestRange::new(0x1002, 6)).unwrap();
    slice.store_u16(0, 0xbeef, Ordering::Release).unwrap();
    assert_eq!(slice.load_u16(0, Ordering::Acquire), Ok(0xbeef));
    assert_eq!(
        slice.load_u32(0, Ordering::Acquire),
        Err(AccessError::Misaligned { addr: 0x1002, align: 4 })
    );
    assert_eq!(slice.load_u32(2, Ordering::Acquire), Ok(0));
    assert!(matches!(slice.load_u32(4, Ordering::Acquire), Err(AccessError::OutOfSlice { .. })));
    assert!(slice.read_obj::<u64>(usize::MAX).is_err());
}

#[test]
fn bulk_copies_go_both_ways_and_respect_the_arena() {
    let memory = holey_memory();
    let arena = create_sealed("arena", 2 * PAGE).unwrap();
    let arena = SharedMapping::map(arena, 8192, Rights::ReadWrite).unwrap();
    let from = memory.check(GuestRange::new(0, PAGE)).unwrap();
    let to = memory.check(GuestRange::new(0x5000, PAGE)).unwrap();
    let pattern: Vec<u8> = (0..4096u32).map(|n| (n * 7 + n / 256) as u8).collect();
    from.copy_out(&pattern).unwrap();
    from.copy_to_mapping(&arena, 4096).unwrap();
    to.copy_from_mapping(&arena, 4096).unwrap();
    let mut back = vec![0; 4096];
    to.copy_in(&mut back).unwrap();
    assert_eq!(back, pattern);
    assert!(matches!(from.copy_to_mapping(&arena, 4097), Err(AccessError::OutOfMapping(_))));
    assert!(matches!(to.copy_from_mapping(&arena, usize::MAX), Err(AccessError::OutOfMapping(_))));
    to.zero().unwrap();
    assert_eq!(to.read_obj(8), Ok(0u64));
}

#[test]
fn an_arena_mapped_for_loads_takes_no_copy() {
    let memory = holey_memory();
    let arena = create_sealed("arena", PAGE).unwrap();
    let arena = SharedMapping::map(arena, 4096, Rights::ReadOnly).unwrap();
    let slice = memory.check(GuestRange::new(0, 8)).unwrap();
    assert!(matches!(slice.copy_to_mapping(&arena, 0), Err(AccessError::OutOfMapping(_))));
    assert_eq!(slice.copy_from_mapping(&arena, 0), Ok(()));
}

#[test]
fn code_of_the_vm_memory_family_sees_the_same_bytes_and_the_same_holes() {
    let memory = holey_memory();
    memory.inner().write_obj(0x1234_5678u32, GuestAddress(0x1ff0)).unwrap();
    let slice = memory.check(GuestRange::new(0x1ff0, 4)).unwrap();
    assert_eq!(slice.read_obj(0), Ok(0x1234_5678u32));
    assert!(memory.inner().write_obj(1u64, GuestAddress(0x1ffc)).is_err());
    let region = memory.regions().next().unwrap();
    assert_eq!(
        region.host_addr(),
        memory.inner().get_host_address(GuestAddress(0)).unwrap() as u64
    );
}

/// The rule, said another way: all bytes lie in the same region.
fn lies_inside(regions: &[RamRegion], range: GuestRange) -> bool {
    regions.iter().any(|region| {
        let (start, end) =
            (u128::from(region.guest_addr), u128::from(region.guest_addr + region.len));
        let (addr, len) = (u128::from(range.addr), u128::from(range.len));
        start <= addr && addr < end && addr + len <= end
    })
}

/// Numbers near the edges of the regions, near the ends of 64 bits, and any.
fn edgy() -> impl Strategy<Value = u64> {
    let edge = (0u64..8, -2i64..=2).prop_map(|(page, off)| (page * PAGE).wrapping_add_signed(off));
    let end = (0u64..5000).prop_map(|off| u64::MAX - off);
    prop_oneof![4 => edge, 2 => 0u64..7 * PAGE, 1 => end, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_range_is_accepted_exactly_if_all_of_it_lies_in_one_region(addr in edgy(), len in edgy()) {
        let memory = holey_memory();
        let range = GuestRange::new(addr, len);
        match memory.check(range) {
            Ok(slice) => {
                prop_assert!(lies_inside(&holey(), range));
                prop_assert_eq!((slice.addr(), slice.len() as u64), (addr, len));
                slice.zero().unwrap();
            }
            Err(OutOfRange { available, .. }) => {
                prop_assert!(!lies_inside(&holey(), range));
                prop_assert!(available < len || len == 0);
                prop_assert!(available == 0 || lies_inside(&holey(), GuestRange::new(addr, available)));
            }
        }
    }

    #[test]
    fn pieces_cover_a_range_once_and_in_order(addr in edgy(), len in 0u64..6 * PAGE) {
        let regions = [0, 1, 3].map(|n| RamRegion { guest_addr: n * PAGE, len: PAGE, file_offset: n * PAGE });
        let memory = memory(&regions, Rights::ReadWrite);
        let mut next = addr;
        for piece in memory.pieces(GuestRange::new(addr, len)) {
            match piece {
                Ok(piece) => {
                    prop_assert_eq!(piece.addr(), next);
                    prop_assert!(!piece.is_empty());
                    next += piece.len() as u64;
                }
                Err(error) => {
                    prop_assert!(!lies_inside(&regions, GuestRange::new(next, 1)));
                    prop_assert_eq!(error.range.addr, next);
                    return Ok(());
                }
            }
        }
        prop_assert_eq!(next - addr, len);
    }

    #[test]
    fn a_subslice_never_leaves_its_slice(offset in any::<usize>(), len in any::<usize>(), small in 0usize..200) {
        let memory = holey_memory();
        let slice = memory.check(GuestRange::new(0x1000, 100)).unwrap();
        for (offset, len) in [(offset, len), (offset % 128, len % 128), (small, len % 8), (offset, small)] {
            let inside = offset.checked_add(len).is_some_and(|end| end <= 100);
            let part = slice.subslice(offset, len);
            prop_assert_eq!(part.is_ok(), inside);
            if let Ok(part) = part {
                prop_assert_eq!((part.addr(), part.len()), (0x1000 + offset as u64, len));
            }
        }
    }
}

#[test]
fn each_way_to_write_is_logged_behind_the_bytes_and_no_way_to_read_is() {
    let region = RamRegion { guest_addr: 0, len: 1 << 20, file_offset: 0 };
    let memory = memory(&[region], Rights::ReadWrite);
    let log = create_sealed("written", 64).unwrap();
    let pages = Arc::new(WrittenPages::map(&log, 0, 64).unwrap());
    memory.log_writes(Some(Arc::clone(&pages)));
    let whole = memory.check(GuestRange::new(0x1000, 0x3000)).unwrap();
    let arena =
        SharedMapping::map(create_sealed("arena", 0x3000).unwrap(), 0x3000, Rights::ReadWrite);
    let arena = arena.unwrap();
    whole.copy_in(&mut [0; 8]).unwrap();
    whole.load_u32(0, Ordering::Relaxed).unwrap();
    whole.copy_to_mapping(&arena, 0).unwrap();
    assert_eq!(pages.take(0), 0);
    whole.copy_out(&[1; 0x1001]).unwrap();
    assert_eq!(pages.take(0), 0b110);
    whole.write_obj(0x2000, 1u64).unwrap();
    assert_eq!(pages.take(0), 0b1000);
    whole.store_u16(0x1ffe, 1, Ordering::Release).unwrap();
    assert_eq!(pages.take(0), 0b100);
    whole.subslice(0x1000, 0x1000).unwrap().zero().unwrap();
    assert_eq!(pages.take(0), 0b100);
    whole.subslice(0, 0x2000).unwrap().copy_from_mapping(&arena, 0).unwrap();
    assert_eq!(pages.take(0), 0b110);
    assert_eq!(whole.fill_from(&log, 0).unwrap(), 64);
    assert_eq!(pages.take(0), 0b10);
    let window = memory.hold(GuestRange::new(0x8000, 16)).unwrap();
    let more = memory.without_region(0, 1 << 20).unwrap();
    window.slice().store_u32(4, 7, Ordering::Release).unwrap();
    assert_eq!((pages.take(0), more.regions().count()), (1 << 8, 0));
    memory.log_writes(None);
    whole.copy_out(&[2; 8]).unwrap();
    window.slice().store_u32(4, 8, Ordering::Release).unwrap();
    assert_eq!(pages.take(0), 0);
}
