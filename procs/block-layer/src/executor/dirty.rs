//! Status with what is dirty: what the disk tells, cut where a bitmap's granules begin and end.
//!
//! Law: an answer may end early, but nothing in it is a guess. A bitmap that is not there is an error: whoever
//! copies what is dirty must not take it for clean.

use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_protocol::block_ring::{STATUS_DIRTY, STATUS_SPAN, StatusExtent};
use zerocopy::FromBytes;

use super::Executor;
use super::bitmaps::Bitmaps;
use crate::disk::{Disk, Operation};
use crate::lane::{Forwarded, ToLane};
use crate::memory::{Heap, Memory};
use crate::node::Served;
use crate::outcome::{Failure, Outcome};
use crate::request::Action;
use crate::status::Extents;

impl Forwarded {
    pub(super) fn asks_for_dirty(&self) -> bool {
        matches!(self.request.action, Action::Status { dirty: true, .. })
    }
}

impl Executor {
    /// Answers a status request of an export that has a bitmap.
    pub(super) fn tell_dirty(&mut self, forwarded: Forwarded) {
        let bitmaps = Rc::clone(&self.bitmaps);
        self.on_graph(|disk| async move {
            let Forwarded { request, arena, revoked, bitmap, lane, .. } = forwarded;
            let operation = Operation::of(request.action, &arena);
            drop(arena);
            let outcome = match (operation, &bitmap) {
                _ if revoked.load(Ordering::Acquire) => Err(Failure::DISCARDED),
                (Operation::Status { at, len, into }, Some(bitmap)) => {
                    tell(&disk, &bitmaps, bitmap, at..at + len, &into, &revoked).await
                }
                _ => Err(Failure::INVALID),
            };
            lane.post(ToLane::Done { tag: request.tag, outcome });
        });
    }
}

async fn tell(
    disk: &Disk<Served>,
    bitmaps: &Bitmaps,
    name: &str,
    range: Range<u64>,
    into: &Memory,
    revoked: &AtomicBool,
) -> Outcome {
    let told = Memory::from(Heap::zeroes(STATUS_SPAN as usize));
    let (at, len) = (range.start, range.end - range.start);
    let status = Operation::Status { at, len, into: told.clone() };
    disk.perform(&status, revoked).await?;
    let mut bytes = [0; STATUS_SPAN as usize];
    told.copy_to(&mut bytes)?;
    let (dirty, until) = bitmaps.dirty(disk, name, range).await.map_err(|_| Failure::IO)?;
    cut(&bytes, at..until, &dirty).put(into)
}

/// The extents in `told`, which begin where `range` does, cut where what is `dirty` begins and ends.
fn cut(told: &[u8], range: Range<u64>, dirty: &[Range<u64>]) -> Extents {
    let mut all = Extents::new();
    let mut at = range.start;
    let mut dirty = dirty.iter().peekable();
    for chunk in told.chunks_exact(size_of::<StatusExtent>()) {
        let Ok(StatusExtent { len: len @ 1.., depth, flags }) =
            StatusExtent::read_from_bytes(chunk)
        else {
            break;
        };
        let end = at.saturating_add(len).min(range.end);
        while at < end {
            while dirty.next_if(|dirty| dirty.end <= at).is_some() {}
            let (flag, stop) = match dirty.peek() {
                Some(dirty) if dirty.start <= at => (STATUS_DIRTY, dirty.end.min(end)),
                Some(dirty) => (0, dirty.start.min(end)),
                None => (0, end),
            };
            if !all.has_room() {
                return all;
            }
            all.push_as(stop - at, depth, flags | flag);
            at = stop;
        }
        if at == range.end {
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use bulkhead_protocol::block_ring::{STATUS_HOLE, STATUS_MOST};
    use zerocopy::IntoBytes;

    use super::*;

    fn extents(
        told: &[StatusExtent],
        range: Range<u64>,
        dirty: &[Range<u64>],
    ) -> Vec<StatusExtent> {
        let into = Memory::from(Heap::zeroes(STATUS_SPAN as usize));
        cut(told.as_bytes(), range, dirty).put(&into).unwrap();
        let mut bytes = [0; STATUS_SPAN as usize];
        into.copy_to(&mut bytes).unwrap();
        let all = bytes.chunks_exact(16).map(|chunk| StatusExtent::read_from_bytes(chunk).unwrap());
        all.take_while(|extent| extent.len > 0).collect()
    }

    const fn extent(len: u64, depth: u32, flags: u32) -> StatusExtent {
        StatusExtent { len, depth, flags }
    }

    #[test]
    fn what_is_told_is_cut_where_dirty_ranges_begin_and_end() {
        let told = [extent(8192, 1, 0), extent(8192, 2, STATUS_HOLE), extent(0, 0, 0)];
        let dirty = [0..1024, 4096..12288, 20480..24576];
        let all = extents(&told, 512..16896, &dirty);
        let expected = [
            extent(512, 1, STATUS_DIRTY),
            extent(3072, 1, 0),
            extent(4608, 1, STATUS_DIRTY),
            extent(3584, 2, STATUS_HOLE | STATUS_DIRTY),
            extent(4608, 2, STATUS_HOLE),
        ];
        assert_eq!(all, expected);
        // Of what lies behind nothing is known.
        assert_eq!(extents(&told, 512..2048, &dirty), [expected[0], extent(1024, 1, 0)]);
    }

    #[test]
    fn what_has_no_room_is_not_told() {
        let told = [extent(1 << 20, 1, 0)];
        let dirty: Vec<_> = (0..1000).map(|at| at * 1024..at * 1024 + 512).collect();
        let all = extents(&told, 0..1 << 20, &dirty);
        assert_eq!(all.len(), STATUS_MOST);
        assert!(all.iter().all(|extent| extent.len == 512));
    }
}
