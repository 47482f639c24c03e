//! Reads and writes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_protocol::spec::CacheMode;
use bulkhead_ring::Arena;
use bulkhead_sys::file::{self, Transfer as How};

use super::{Attempt, Image};
use crate::outcome::{Failure, Outcome};
use crate::request::{Durability, Span};

/// `EOPNOTSUPP`: the file knows no `RWF_NOWAIT` in this direction.
pub(super) const UNSUPPORTED: i32 = 95;

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write(Durability),
}

/// What is left of a read or write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    direction: Direction,
    at: u64,
    span: Span,
    done: u32,
}

impl Transfer {
    pub(super) fn of(direction: Direction, at: u64, span: Span) -> Self {
        let done = 0;
        Self { direction, at, span, done }
    }

    /// The same with `done` bytes behind it.
    pub(super) fn after(self, done: u32) -> Self {
        Self { done, ..self }
    }

    fn is_over(&self) -> bool {
        self.done >= self.span.len
    }
}

impl Image {
    /// The inline way. In memory a transfer is a copy; elsewhere `RWF_NOWAIT` says whether it is.
    #[inline]
    pub(super) fn attempt_transfer(&self, mut transfer: Transfer, arena: &Arena) -> Attempt {
        let refuses = match transfer.direction {
            Direction::Read => &self.reads_block,
            Direction::Write(_) => &self.writes_block,
        };
        let nowait = !self.in_memory;
        let must_wait = self.is_durable(transfer.direction) || refuses.load(Ordering::Relaxed);
        if nowait && must_wait {
            return Attempt::WouldBlock { done: 0 };
        }
        while !transfer.is_over() {
            match self.call(transfer, arena, How { nowait, durable: false }) {
                Ok(0) => return Attempt::Done(Err(Failure::IO)),
                Ok(count) => transfer.done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if nowait && is_refusal(&error) => {
                    // Not remembered for EAGAIN: that is about these pages, not about the file.
                    if error.raw_os_error() == Some(UNSUPPORTED) {
                        refuses.store(true, Ordering::Relaxed);
                    }
                    return Attempt::WouldBlock { done: transfer.done };
                }
                Err(error) => return Attempt::Done(Err(error.into())),
            }
        }
        Attempt::Done(Ok(()))
    }

    /// The worker's way. A file that ends early was cut by somebody: an I/O error.
    pub(super) fn transfer(
        &self,
        mut transfer: Transfer,
        arena: &Arena,
        revoked: &AtomicBool,
    ) -> Outcome {
        let durable = self.is_durable(transfer.direction);
        if durable && self.unsafe_to_flush.load(Ordering::Acquire) {
            return Err(Failure::IO);
        }
        while !transfer.is_over() {
            if revoked.load(Ordering::Acquire) {
                return Err(Failure::DISCARDED);
            }
            match self.call(transfer, arena, How { nowait: false, durable }) {
                Ok(0) => return Err(Failure::IO),
                Ok(count) => transfer.done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let failure = Failure::from(error);
                    if durable && failure == Failure::IO {
                        self.unsafe_to_flush.store(true, Ordering::Release);
                    }
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    fn is_durable(&self, direction: Direction) -> bool {
        direction == Direction::Write(Durability::Fua)
            && !self.in_memory
            && self.cache != CacheMode::Unsafe
    }

    #[inline]
    pub(super) fn call(&self, transfer: Transfer, arena: &Arena, how: How) -> io::Result<u32> {
        let Transfer { at, span, done, .. } = transfer;
        let start = u64::from(span.offset) + u64::from(done);
        let slice = arena.check(start, u64::from(span.len - done)).map_err(io::Error::other)?;
        let (at, memory) = (at + u64::from(done), slice.mapping());
        let count = match transfer.direction {
            Direction::Read => {
                file::read_at(&self.file, at, memory, slice.offset(), slice.len(), how)
            }
            Direction::Write(_) => {
                file::write_at(&self.file, at, memory, slice.offset(), slice.len(), how)
            }
        }?;
        if transfer.direction != Direction::Read {
            self.reached(at + count as u64);
        }
        // At most the span's length, which fits.
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// Whether the file would have had to wait, or has no way to say so.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(UNSUPPORTED)
}
