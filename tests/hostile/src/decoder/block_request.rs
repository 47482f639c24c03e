//! An entry of a block ring, judged by the block layer: what passes stays inside image and arena.

use bulkhead_block_layer::request::{Action, Limits, Span};
use bulkhead_protocol::block_ring::{BlockRequest, MAX_TRANSFER, Operation};
use zerocopy::{FromBytes, IntoBytes};

use super::Verdict;
use crate::draw::Draw;

const SIZE: u64 = 1 << 24;
const ARENA: u64 = 8 << 20;

/// A disk's limits from the first byte, then an entry's bytes.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let traits = draw.byte();
    let limits = Limits {
        size: SIZE,
        block: if traits & 1 == 0 { 512 } else { 4096 },
        read_only: traits & 2 != 0,
        discard: traits & 4 != 0,
        arena: ARENA,
    };
    let Ok((alleged, _)) = BlockRequest::read_from_prefix(draw.rest()) else {
        return Verdict::Refused;
    };
    let checked = limits.check(&alleged);
    if let Ok(request) = &checked {
        assert_eq!(request.tag, alleged.tag);
        let changes =
            !matches!(request.action, Action::Read { .. } | Action::Status { .. } | Action::Flush);
        assert!(!limits.read_only || !changes);
        match request.action {
            Action::Read { at, span } | Action::Write { at, span, .. } => {
                within(at, span.len.into(), limits.block);
                inside_the_arena(span);
            }
            Action::Discard { at, len } | Action::Zero { at, len, .. } => {
                within(at, len, limits.block);
            }
            Action::Status { at, len, span, .. } => {
                within(at, len, limits.block);
                inside_the_arena(span);
            }
            Action::Flush => {}
        }
    }
    Verdict::of(&checked)
}

fn within(at: u64, len: u64, block: u32) {
    let end = at.checked_add(len).expect("a range that wraps");
    assert!(len > 0 && end <= SIZE, "{at:#x}+{len:#x} outside of the image");
    assert!((at | len).is_multiple_of(block.into()), "{at:#x}+{len:#x} in parts of a block");
}

fn inside_the_arena(span: Span) {
    assert!(u64::from(span.offset) + u64::from(span.len) <= ARENA, "{span:?} outside of the arena");
    assert!(span.len <= MAX_TRANSFER);
}

/// One request of each operation.
pub fn samples() -> Vec<Vec<u8>> {
    let operations = [
        Operation::Read,
        Operation::Write,
        Operation::Flush,
        Operation::Discard,
        Operation::WriteZeroes,
        Operation::WriteZeroesUnmap,
        Operation::Status,
    ];
    let entry = |operation: Operation| BlockRequest {
        tag: 1,
        offset: 8192,
        span: 4096,
        len: if operation == Operation::Flush { 0 } else { 4096 },
        operation: operation.code(),
        flags: 0,
        reserved: [0; 6],
    };
    operations.map(|operation| [&[4], entry(operation).as_bytes()].concat()).to_vec()
}
