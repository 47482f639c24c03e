//! Where a format keeps its bytes: a file, as far as a format needs one.
//!
//! Implemented by [`Served`](crate::node::Served) for the process: a file (inline where that cannot block, by
//! workers otherwise) or a server's export ([`Remote`](crate::remote::Remote)); by [`Plain`] for tools,
//! and by [`Memory`](memory::MemoryFile) for tests, which also remembers every write so that crashes can be
//! played.
//!
//! Law: a read beyond the end is zeroes; a write beyond the end makes the file longer, and what lies
//! between is zeroes. Writes that are not separated by a `sync` may reach the device in any order.

pub mod memory;
mod plain;

use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};

pub use plain::Plain;

/// A file, a block device, or what stands in for one.
pub trait Storage: std::fmt::Debug {
    /// Fills `into` with the bytes at `at`.
    fn read(&self, at: u64, into: Memory) -> impl Future<Output = Outcome>;

    /// Writes `from` at `at`.
    fn write(&self, at: u64, from: Memory) -> impl Future<Output = Outcome>;

    /// Makes a range read as zeroes.
    fn zero(&self, at: u64, len: u64) -> impl Future<Output = Outcome>;

    /// The same, and its room stays its own where the host can do that.
    fn zero_in_place(&self, at: u64, len: u64) -> impl Future<Output = Outcome> {
        self.zero(at, len)
    }

    /// The range is no longer needed: it may read as anything afterwards.
    fn discard(&self, at: u64, len: u64) -> impl Future<Output = Outcome>;

    /// Whether what is at `at` is known to read as zeroes, and for how many bytes of `len` that holds.
    fn reads_zero(&self, _at: u64, len: u64) -> impl Future<Output = Result<(bool, u64), Failure>> {
        std::future::ready(Ok((false, len)))
    }

    /// Waits until everything that was written is on stable storage.
    fn sync(&self) -> impl Future<Output = Outcome>;

    /// How long it is in bytes.
    fn size(&self) -> Result<u64, Failure>;

    /// Whether to make room before it is written to pays; see [`make_room`](Self::make_room).
    fn wants_room(&self) -> bool {
        false
    }

    /// The file becomes longer by a range that reads as zeroes, and the host keeps room for it.
    fn make_room(&self, _at: u64, _len: u64) -> impl Future<Output = Outcome> {
        std::future::ready(Err(Failure::UNSUPPORTED))
    }

    /// The file ends there. Nothing that lies behind is used.
    fn cut(&self, _end: u64) -> impl Future<Output = Outcome> {
        std::future::ready(Err(Failure::UNSUPPORTED))
    }

    /// Whether what lies beyond its end reads as zeroes once it has grown: true of files, false of
    /// block devices, which do not grow.
    fn grows(&self) -> bool;
}
