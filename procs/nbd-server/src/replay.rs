//! Block-layer was replaced: what was out goes to its successor.
//!
//! Each piece in its old order and its old span. What is to be written is copied from the old arena to
//! the new one, which nobody else has seen.

use bulkhead_block_client::{BlockClient, LinkFault};
use bulkhead_protocol::block_ring::Operation;
use bulkhead_ring::{Arena, ArenaSpan};

use crate::owner::{BlockLink, ClientDone};

/// Deaths of block-layer by its own fault that a request may be part of.
const MOST_ATTEMPTS: u8 = 3;

/// `EIO`.
const EIO: u32 = 5;

/// Bytes that are copied at once between two arenas.
const STEP: usize = 16 << 10;

/// Takes the successor's ring and submits what was out. Answers the arena of the old one, and what was
/// part of too many deaths and is not submitted again.
pub fn replay(
    link: &mut BlockLink,
    client: BlockClient,
    own_fault: bool,
) -> Result<(Arena, Vec<ClientDone>), LinkFault> {
    let (old, unfinished) = link.replace(client);
    let mut poison = Vec::new();
    for mut out in unfinished {
        out.attempts += u8::from(own_fault);
        if out.attempts >= MOST_ATTEMPTS {
            poison.push(ClientDone { piece: out.piece, span: out.span, status: EIO });
            continue;
        }
        if let (Operation::Write, Some(span)) = (out.piece.operation, &out.span) {
            carry_over(&old, link.arena(), span, span.len());
        }
        link.resubmit(out)?;
    }
    Ok((old, poison))
}

/// Copies the first `len` bytes of a span from one arena to the same place of another.
pub fn carry_over(from: &Arena, to: &Arena, span: &ArenaSpan, len: u64) {
    let mut bytes = [0; STEP];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(STEP as u64);
        let Some(step) = bytes.get_mut(..count as usize) else { return };
        let at = span.offset() + done;
        // Both arenas are of one geometry, which the span was checked against.
        let read = from.check(at, count).and_then(|slice| slice.copy_in(step));
        let _ = read.and_then(|()| to.check(at, count)?.copy_out(step));
        done += count;
    }
}
