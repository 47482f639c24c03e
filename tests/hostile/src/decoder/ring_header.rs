//! The header of a ring's memory object.

use bulkhead_ring::{Header, RingGeometry};

use super::Verdict;

const INCARNATION: u64 = 3;

fn geometry() -> RingGeometry {
    RingGeometry::new(256, 8 << 20).expect("a shape that rings have")
}

/// Bytes of a header, held against a plan: only the planned one passes.
pub fn run(bytes: &[u8]) -> Verdict {
    let Some(bytes) = bytes.first_chunk::<{ size_of::<Header>() }>() else {
        return Verdict::Refused;
    };
    let header = Header::decode(*bytes);
    assert_eq!(header.encode(), *bytes);
    let judged = header.expect(geometry(), INCARNATION);
    assert_eq!(judged.is_ok(), header == Header::new(geometry(), INCARNATION));
    Verdict::of(&judged)
}

/// The planned one, and one of another incarnation.
pub fn samples() -> Vec<Vec<u8>> {
    let header = |incarnation| Header::new(geometry(), incarnation).encode().to_vec();
    vec![header(INCARNATION), header(INCARNATION - 1)]
}
