//! Every wrong field is named, and no bytes whatever are mistaken for the plan or panic.

use proptest::prelude::*;

use super::*;

const LEN: usize = size_of::<Header>();

fn geometry() -> RingGeometry {
    RingGeometry::new(64, 1 << 20).unwrap()
}

fn bytes() -> [u8; LEN] {
    Header::new(geometry(), 7).encode()
}

fn judge(bytes: [u8; LEN]) -> Result<(), HeaderFault> {
    Header::decode(bytes).expect(geometry(), 7)
}

#[test]
fn a_header_meets_its_own_plan_and_no_other() {
    assert_eq!(judge(bytes()), Ok(()));
    let header = Header::decode(bytes());
    let stale = header.expect(geometry(), 8);
    assert_eq!(stale, Err(HeaderFault::Incarnation { found: 7, planned: 8 }));
    for other in [RingGeometry::new(32, 1 << 20), RingGeometry::new(64, 1 << 21)] {
        let fault = header.expect(other.unwrap(), 7).unwrap_err();
        assert!(matches!(fault, HeaderFault::Geometry { entries: 64, arena_len: 0x100000, .. }));
    }
}

#[test]
fn a_memory_object_without_a_header_is_no_ring() {
    assert_eq!(judge([0; LEN]), Err(HeaderFault::Magic(0)));
}

#[test]
fn every_single_flipped_bit_is_found() {
    for bit in 0..LEN * 8 {
        let mut flipped = bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let fault = judge(flipped).expect_err("a flipped bit was not found");
        let named = match bit / 8 {
            0..8 => matches!(fault, HeaderFault::Magic(_)),
            8..12 => matches!(fault, HeaderFault::Version { .. }),
            12..24 => matches!(fault, HeaderFault::Geometry { .. }),
            _ => matches!(fault, HeaderFault::Incarnation { .. }),
        };
        assert!(named, "bit {bit}: {fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn arbitrary_bytes_are_judged_and_survive_a_round_trip(
        mut garbage in any::<[u8; LEN]>(),
        kept in 0usize..=LEN,
    ) {
        garbage[..kept].copy_from_slice(&bytes()[..kept]);
        prop_assert_eq!(judge(garbage).is_ok(), garbage == bytes());
        prop_assert_eq!(Header::decode(garbage).encode(), garbage);
    }
}
