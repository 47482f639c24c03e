//! Only what lies in the arena is handed out, whoever asks.

use std::sync::Arc;

use bulkhead_sys::mapping::{Rights, SharedMapping};
use bulkhead_sys::memfd::create_sealed;
use proptest::prelude::*;

use super::*;

const LEN: u64 = 8192;

fn arena() -> Arena {
    let geometry = RingGeometry::new(4, LEN).unwrap();
    let fd = create_sealed("arena", geometry.object_len()).unwrap();
    let len = geometry.object_len() as usize;
    let mapping = SharedMapping::map(fd, len, Rights::ReadWrite).unwrap();
    Arena::new(Arc::new(mapping), geometry)
}

#[test]
fn bytes_go_in_and_out_where_they_were_put() {
    let arena = arena();
    arena.check(4096, 4).unwrap().copy_out(b"data").unwrap();
    let mut back = [0; 6];
    arena.check(4095, 6).unwrap().copy_in(&mut back).unwrap();
    assert_eq!(&back, b"\0data\0");
    arena.check(4096, 2).unwrap().zero().unwrap();
    arena.check(4095, 6).unwrap().copy_in(&mut back).unwrap();
    assert_eq!(&back, b"\0\0\0ta\0");
}

#[test]
fn offset_and_mapping_name_the_same_bytes_as_the_slice() {
    let arena = arena();
    let slice = arena.check(100, 3).unwrap();
    slice.mapping().copy_out(slice.offset(), b"abc").unwrap();
    let mut back = [0; 3];
    slice.copy_in(&mut back).unwrap();
    assert_eq!(&back, b"abc");
    assert_eq!(slice.as_ptr() as usize, slice.mapping().as_ptr() as usize + slice.offset());
}

#[test]
fn more_than_the_slice_is_neither_read_nor_written() {
    let arena = arena();
    let slice = arena.check(0, 3).unwrap();
    let outside = OutOfArena { offset: 0, len: 4, size: 3 };
    assert_eq!(slice.copy_out(b"abcd"), Err(outside));
    assert_eq!(slice.copy_in(&mut [0; 4]), Err(outside));
}

#[test]
fn an_arena_outlives_the_ring_it_came_from() {
    let held = arena().clone();
    assert!(held.check(0, LEN).unwrap().copy_out(&[1; 8192]).is_ok());
}

proptest! {
    #[test]
    fn a_range_is_accepted_exactly_if_it_lies_inside(
        offset in prop_oneof![0..2 * LEN, any::<u64>()],
        len in prop_oneof![0..2 * LEN, any::<u64>()],
    ) {
        let arena = arena();
        let inside = u128::from(offset) + u128::from(len) <= u128::from(LEN);
        let checked = arena.check(offset, len);
        prop_assert_eq!(checked.is_ok(), inside);
        if let Ok(slice) = checked {
            prop_assert!(slice.mapping().check(slice.offset(), slice.len()).is_ok());
            slice.zero().unwrap();
            let part = slice.subslice(len as usize, 1);
            prop_assert!(part.is_err());
        }
    }
}
