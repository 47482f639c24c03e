//! From what block-layer tells of a range to what a metadata context says of it.

use bulkhead_nbd::context::{DIRTY, HOLE, ZERO};
use bulkhead_nbd::reply::Extent;
use bulkhead_protocol::block_ring::{
    STATUS_DIRTY, STATUS_HOLE, STATUS_MOST, STATUS_SPAN, STATUS_ZERO, StatusExtent,
};
use bulkhead_ring::{Arena, ArenaSpan};
use zerocopy::FromBytes;

use crate::handshake::Context;
use crate::judge::Range;

/// Copies the extents out of the arena: from then on nobody can change them.
pub fn take(arena: &Arena, span: &ArenaSpan) -> Vec<StatusExtent> {
    let mut bytes = [0; STATUS_SPAN as usize];
    let copied = arena.check(span.offset(), span.len()).and_then(|slice| slice.copy_in(&mut bytes));
    if copied.is_err() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for chunk in bytes.chunks_exact(size_of::<StatusExtent>()).take(STATUS_MOST) {
        match StatusExtent::read_from_bytes(chunk) {
            Ok(extent) if extent.len > 0 => all.push(extent),
            _ => break,
        }
    }
    all
}

/// What `context` says of `range`, of which `told` begins at `from`. Nothing, if nothing was told.
pub fn extents(
    told: &[StatusExtent],
    from: u64,
    range: Range,
    context: Context,
    one: bool,
) -> Vec<Extent> {
    let mut all: Vec<Extent> = Vec::new();
    let mut at = from;
    for extent in told {
        let end = at.saturating_add(extent.len).min(range.end());
        let begin = at.max(range.at);
        at = end;
        if end <= begin {
            continue;
        }
        let (len, status) = (end - begin, status(extent, context));
        match all.last_mut() {
            Some(last) if last.status == status => last.len += len,
            Some(_) if one => break,
            _ => all.push(Extent { len, status }),
        }
    }
    all
}

fn status(extent: &StatusExtent, context: Context) -> u32 {
    let bit = |set: u32, bit: u32| if extent.flags & set != 0 { bit } else { 0 };
    match context {
        Context::Allocation => bit(STATUS_HOLE, HOLE) | bit(STATUS_ZERO, ZERO),
        Context::Depth => extent.depth,
        Context::Dirty => bit(STATUS_DIRTY, DIRTY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: [StatusExtent; 3] = [
        StatusExtent { len: 4096, depth: 1, flags: 0 },
        StatusExtent { len: 4096, depth: 2, flags: 0 },
        StatusExtent { len: 1 << 40, depth: 0, flags: STATUS_HOLE | STATUS_ZERO },
    ];

    #[test]
    fn each_context_joins_what_it_does_not_tell_apart() {
        let range = Range { at: 1000, len: 10_000 };
        let allocation = extents(&TOLD, 512, range, Context::Allocation, false);
        assert_eq!(allocation, [Extent { len: 7704, status: 0 }, Extent { len: 2296, status: 3 }]);
        let depth = extents(&TOLD, 512, range, Context::Depth, false);
        assert_eq!(depth.iter().map(|extent| extent.len).sum::<u64>(), 10_000);
        assert_eq!(depth.len(), 3);
    }

    #[test]
    fn one_extent_is_one_and_a_lie_ends_with_the_range() {
        let range = Range { at: 0, len: 5000 };
        assert_eq!(
            extents(&TOLD, 0, range, Context::Depth, true),
            [Extent { len: 4096, status: 1 }]
        );
        let lie = [StatusExtent { len: u64::MAX, depth: 0, flags: 0 }; 2];
        let told = extents(&lie, 0, range, Context::Allocation, false);
        assert_eq!(told, [Extent { len: 5000, status: 0 }]);
    }
}
