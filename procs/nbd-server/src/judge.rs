//! From allegation to task: what a client asks, held against the disk.
//!
//! A [`Task`] exists only if it may be done; whatever handles it afterwards checks nothing again. What may
//! not be done is answered with the error that the standard has for it, and a reason for people.

use bulkhead_nbd::error::Error;
use bulkhead_nbd::reply::Style;
use bulkhead_nbd::request::{Command, Request, flag};
use bulkhead_protocol::block_ring::{FLAG_FAST, FLAG_FUA, Operation};

use crate::export::Export;
use crate::limits::MOST_PAYLOAD;

/// Longest range of one ring request without data.
pub const LONGEST_RANGE: u64 = 1 << 30;

/// What is to be done. All ranges are inside the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Data to the client.
    Read {
        /// The bytes that are wanted.
        range: Range,
        /// They are one message: in order, behind one header.
        whole: bool,
    },
    /// Data from the client; whole blocks.
    Write {
        /// Where it goes.
        range: Range,
        /// `FLAG_…` of the block ring.
        flags: u8,
    },
    /// Reads that nobody wants the data of.
    Cache {
        /// What will be read soon; whole blocks.
        range: Range,
    },
    /// Something without data; whole blocks, perhaps none.
    Change {
        /// What.
        operation: Operation,
        /// Where.
        range: Range,
        /// `FLAG_…` of the block ring.
        flags: u8,
        /// On stable storage before the reply.
        durable: bool,
    },
    /// Completed writes to stable storage.
    Flush,
    /// What the contexts say of a range.
    Status {
        /// Which; its length is a wish.
        range: Range,
        /// One extent for each context.
        one: bool,
        /// One of the contexts is a bitmap.
        dirty: bool,
    },
}

/// Bytes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub at: u64,
    /// How many.
    pub len: u64,
}

impl Range {
    /// The first byte behind it.
    pub fn end(self) -> u64 {
        self.at + self.len
    }

    /// All blocks that it touches.
    pub fn widened(self, block: u64) -> Self {
        let at = self.at / block * block;
        Self { at, len: self.end().next_multiple_of(block) - at }
    }

    /// The blocks that lie in it whole.
    pub fn narrowed(self, block: u64) -> Self {
        let at = self.at.next_multiple_of(block);
        Self { at, len: (self.end() / block * block).saturating_sub(at) }
    }

    fn is_whole(self, block: u64) -> bool {
        self.at.is_multiple_of(block) && self.len.is_multiple_of(block)
    }
}

/// What a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do this.
    Do(Task),
    /// There is nothing to do.
    Done,
    /// It may not be done.
    Refuse(Error, &'static str),
    /// The client leaves.
    Leave,
    /// Where its next request begins is not known any more.
    Lost,
}

/// A request and what it brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// What it comes to.
    pub verdict: Verdict,
    /// Bytes of payload that follow it; of a [`Task::Write`] they are its data, else nobody wants them.
    pub payload: u64,
}

/// Judges a request of a client with these replies; `contexts`: it has chosen some.
pub fn judge(request: &Request, export: &Export, style: Style, contexts: bool) -> Judgement {
    let command = Command::from_code(request.command);
    let says_payload = style == Style::Extended && request.flags & flag::PAYLOAD_LEN != 0;
    // Data follows every write; with extended headers other commands might bring some, too.
    let payload = if command == Some(Command::Write) || says_payload { request.len } else { 0 };
    let verdict = match command {
        _ if payload > u64::from(MOST_PAYLOAD) => Verdict::Lost,
        None => Verdict::Refuse(Error::Invalid, "there is no such command"),
        Some(command) if says_payload && command != Command::Write => {
            Verdict::Refuse(Error::Invalid, "it takes no payload")
        }
        Some(Command::BlockStatus) if !contexts => {
            Verdict::Refuse(Error::Invalid, "no metadata context was chosen")
        }
        Some(command) => verdict(command, request, export, style),
    };
    Judgement { verdict, payload }
}

/// Flags that a command may have.
fn flags_of(command: Command, style: Style) -> u16 {
    let own = match command {
        Command::Read if style > Style::Simple => flag::DF,
        Command::WriteZeroes => flag::NO_HOLE | flag::FAST_ZERO,
        Command::BlockStatus => flag::REQ_ONE,
        Command::Write if style == Style::Extended => flag::PAYLOAD_LEN,
        _ => 0,
    };
    // The standard lets FUA stand at every command.
    own | flag::FUA
}

fn verdict(command: Command, request: &Request, export: &Export, style: Style) -> Verdict {
    if command == Command::Disconnect {
        return Verdict::Leave;
    }
    let disk = &export.disk;
    if request.flags & !flags_of(command, style) != 0 {
        return Verdict::Refuse(Error::Invalid, "the command has no such flag");
    }
    let changes = matches!(command, Command::Write | Command::Trim | Command::WriteZeroes);
    if changes && disk.read_only {
        return Verdict::Refuse(Error::NotPermitted, "the export is read-only");
    }
    let range = Range { at: request.offset, len: request.len };
    if command == Command::Flush {
        return match (disk.flush, range.at | range.len) {
            (false, _) => Verdict::Done,
            (true, 0) => Verdict::Do(Task::Flush),
            (true, _) => Verdict::Refuse(Error::Invalid, "a flush has no range"),
        };
    }
    if range.at.checked_add(range.len).is_none_or(|end| end > disk.size) {
        let error = if command == Command::Write || command == Command::WriteZeroes {
            Error::NoSpace
        } else {
            Error::Invalid
        };
        return Verdict::Refuse(error, "the range is not inside the disk");
    }
    if range.len == 0 {
        return match command {
            Command::BlockStatus => Verdict::Refuse(Error::Invalid, "the range is empty"),
            _ => Verdict::Done,
        };
    }
    let durable = request.flags & flag::FUA != 0 && disk.flush;
    let whole = range.is_whole(export.block());
    let narrowed = range.narrowed(export.block());
    match command {
        Command::Read if range.len > MOST_PAYLOAD.into() => {
            Verdict::Refuse(Error::Overflow, "it is longer than any payload")
        }
        Command::Read => {
            let whole = style == Style::Simple || request.flags & flag::DF != 0;
            Verdict::Do(Task::Read { range, whole })
        }
        Command::Write | Command::WriteZeroes if !whole => {
            Verdict::Refuse(Error::Invalid, "it begins or ends within a block")
        }
        Command::Write => {
            Verdict::Do(Task::Write { range, flags: if durable { FLAG_FUA } else { 0 } })
        }
        // It would go out in parts, of which one may be done before another is found to be slow.
        Command::WriteZeroes
            if request.flags & flag::FAST_ZERO != 0 && range.len > LONGEST_RANGE =>
        {
            Verdict::Refuse(Error::Unsupported, "so much at once is not fast")
        }
        Command::WriteZeroes => {
            let no_hole = request.flags & flag::NO_HOLE != 0;
            let fast = request.flags & flag::FAST_ZERO != 0;
            let operation =
                if no_hole { Operation::WriteZeroes } else { Operation::WriteZeroesUnmap };
            let flags = if fast { FLAG_FAST } else { 0 };
            Verdict::Do(Task::Change { operation, range, flags, durable })
        }
        // Both are hints: parts of blocks are left alone.
        Command::Trim if !disk.discard || narrowed.len == 0 => Verdict::Done,
        Command::Trim => {
            let (operation, flags) = (Operation::Discard, 0);
            Verdict::Do(Task::Change { operation, range: narrowed, flags, durable })
        }
        Command::Cache if narrowed.len == 0 => Verdict::Done,
        Command::Cache => {
            let len = narrowed.len.min(MOST_PAYLOAD.into());
            Verdict::Do(Task::Cache { range: Range { len, ..narrowed } })
        }
        Command::BlockStatus => {
            let one = request.flags & flag::REQ_ONE != 0;
            Verdict::Do(Task::Status { range, one, dirty: false })
        }
        Command::Flush | Command::Disconnect => Verdict::Done,
    }
}

#[cfg(test)]
mod tests;
