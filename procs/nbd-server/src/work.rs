//! A request that is under way: what of it has gone out in pieces, and what has come back.

use std::collections::BTreeMap;

use bulkhead_nbd::error::Error;
use bulkhead_nbd::reply::Addressee;
use bulkhead_protocol::block_ring::{FLAG_DIRTY, Operation, STATUS_SPAN};
use bulkhead_ring::ArenaSpan;

use crate::judge::{LONGEST_RANGE, Range, Task};
use crate::limits::PIECE;

/// See the module.
#[derive(Debug)]
pub struct Work {
    /// Who is answered.
    pub to: Addressee,
    /// What is to be done.
    pub task: Task,
    /// All blocks that it touches.
    pub blocks: Range,
    /// What of [`blocks`](Self::blocks) has gone out, in bytes.
    pub cut: u64,
    /// Pieces that are out.
    pub left: u32,
    /// The first failure.
    pub failed: Option<Error>,
    /// Of a read that is one message: what has come back.
    pub ordered: Ordered,
    /// Of a status request: its answer has been written.
    pub answered: bool,
}

/// Pieces of a read that wait for those in front of them.
#[derive(Debug, Default)]
pub struct Ordered {
    /// By their first byte; `None`: that one failed.
    pub arrived: BTreeMap<u64, (u32, Option<ArenaSpan>)>,
    /// How many bytes of the blocks were passed on.
    pub passed: u64,
    /// The header was written: from here on everything must follow.
    pub begun: bool,
}

/// What a piece needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What it does.
    pub operation: Operation,
    /// `FLAG_…` of the block ring.
    pub flags: u8,
    /// Its first byte.
    pub offset: u64,
    /// Its length at most.
    pub len: u64,
    /// Bytes of the arena that it wants; if they are those of its data, fewer will do.
    pub span: u64,
}

impl Work {
    /// Nothing of it has been done yet.
    pub fn new(to: Addressee, task: Task, block: u64) -> Self {
        let blocks = match task {
            Task::Read { range, .. } | Task::Status { range, .. } => range.widened(block),
            Task::Write { range, .. } | Task::Cache { range } | Task::Change { range, .. } => range,
            Task::Flush => Range { at: 0, len: 0 },
        };
        let (ordered, answered) = (Ordered::default(), false);
        Self { to, task, blocks, cut: 0, left: 0, failed: None, ordered, answered }
    }

    /// Whether nothing more of it goes out.
    pub fn is_whole(&self) -> bool {
        match self.task {
            // A flush has no bytes: one is counted once it is out.
            Task::Flush => self.cut > 0,
            _ => self.cut >= self.blocks.len,
        }
    }

    /// What its next piece needs.
    pub fn next(&self) -> Need {
        let offset = self.blocks.at + self.cut;
        let left = self.blocks.len - self.cut.min(self.blocks.len);
        let data = left.min(PIECE);
        let need = |operation, flags, len, span| Need { operation, flags, offset, len, span };
        match self.task {
            Task::Read { .. } | Task::Cache { .. } => need(Operation::Read, 0, data, data),
            Task::Write { flags, .. } => need(Operation::Write, flags, data, data),
            Task::Change { operation, flags, .. } => {
                need(operation, flags, left.min(LONGEST_RANGE), 0)
            }
            Task::Flush => Need { offset: 0, ..need(Operation::Flush, 0, 0, 0) },
            Task::Status { dirty, .. } => {
                let flags = if dirty { FLAG_DIRTY } else { 0 };
                need(Operation::Status, flags, left.min(LONGEST_RANGE), STATUS_SPAN.into())
            }
        }
    }

    /// A piece of `len` bytes has gone out.
    pub fn sent(&mut self, len: u64) {
        self.left += 1;
        self.cut = match self.task {
            Task::Flush => 1,
            // Block status may end early: nothing follows the first piece.
            Task::Status { .. } => self.blocks.len,
            _ => self.cut + len,
        };
    }

    /// Makes a flush of what had to be durable; `false`: it had not.
    pub fn make_durable(&mut self) -> bool {
        match self.task {
            Task::Change { durable: true, .. } if self.failed.is_none() => {
                self.task = Task::Flush;
                self.cut = 0;
                true
            }
            _ => false,
        }
    }
}

/// What of a piece at `offset` of `len` bytes belongs to `range`: from where to where in the piece.
pub fn wanted(range: Range, offset: u64, len: u32) -> (u32, u32) {
    let begin = range.at.saturating_sub(offset).min(len.into());
    let end = range.end().saturating_sub(offset).min(len.into());
    (begin as u32, end as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Addressee = Addressee { cookie: 1, offset: 0 };

    #[test]
    fn a_long_read_goes_out_in_pieces_that_cover_its_blocks() {
        let range = Range { at: 100, len: 1 << 20 };
        let mut work = Work::new(TO, Task::Read { range, whole: true }, 512);
        let mut covered = 0;
        let mut taken = 0;
        while !work.is_whole() {
            let need = work.next();
            assert_eq!(need.offset, covered);
            let (from, to) = wanted(range, need.offset, need.len as u32);
            taken += to - from;
            work.sent(need.len);
            covered += need.len;
        }
        assert_eq!((covered, taken), ((1 << 20) + 512, 1 << 20));
        assert_eq!(work.left, 5);
    }

    #[test]
    fn a_durable_trim_is_followed_by_one_flush() {
        let range = Range { at: 0, len: 512 };
        let task = Task::Change { operation: Operation::Discard, range, flags: 0, durable: true };
        let mut work = Work::new(TO, task, 512);
        work.sent(512);
        assert!(work.is_whole() && work.make_durable());
        assert_eq!(work.next().operation, Operation::Flush);
        work.sent(0);
        assert!(work.is_whole() && !work.make_durable());
    }
}
