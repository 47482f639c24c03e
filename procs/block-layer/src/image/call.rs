//! Calls that a graph makes on an image: requests of rings as they are, and bytes of containers.
//!
//! A container is the file of a format. It has any length and grows; what is read beyond its end is
//! zeroes. Everything else is as for requests: inline what cannot block, by a worker what may.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_protocol::spec::CacheMode;
use bulkhead_ring::Arena;
use bulkhead_sys::file::{self, Transfer as How};

use super::transfer::{Direction, Transfer, UNSUPPORTED, is_refusal};
use super::zero::Otherwise;
use super::{Attempt, Image};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::request::{Action, Durability};

/// One call. It owns what it needs, so that a worker can have it.
#[derive(Debug)]
pub enum Call {
    /// A request of a ring, on a disk that is the image as it is.
    Request {
        /// What to do.
        action: Action,
        /// Where its data is.
        arena: Arena,
    },
    /// Bytes of a container.
    Read {
        /// The first.
        at: u64,
        /// Where they go.
        into: Memory,
    },
    /// Bytes for a container.
    Write {
        /// Where the first goes.
        at: u64,
        /// Where they are.
        from: Memory,
    },
    /// A range of a container becomes zeroes.
    Zero {
        /// Its first byte.
        at: u64,
        /// Bytes.
        len: u64,
        /// Whether it may be given back.
        unmap: bool,
    },
    /// A range of a container is no longer needed.
    Discard {
        /// Its first byte.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// Everything written is to be on stable storage.
    Sync,
    /// Room for what is to be written.
    MakeRoom {
        /// Its first byte.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// The container ends there.
    Cut {
        /// Its length.
        end: u64,
    },
}

impl Image {
    /// Makes the call if that cannot block.
    pub fn attempt_call(&self, call: &Call) -> Attempt {
        match call {
            Call::Request { action, arena } => self.attempt(*action, arena),
            Call::Read { at, into } => self.attempt_bytes(Direction::Read, *at, into),
            Call::Write { at, from } => {
                self.attempt_bytes(Direction::Write(Durability::Visible), *at, from)
            }
            Call::Sync if !self.flush_reaches_a_device() => Attempt::Done(Ok(())),
            Call::Zero { .. }
            | Call::Discard { .. }
            | Call::Sync
            | Call::MakeRoom { .. }
            | Call::Cut { .. } => Attempt::WouldBlock { done: 0 },
        }
    }

    /// Makes what is left of the call, however long it takes.
    pub fn perform_call(&self, call: &Call, done: u32, revoked: &AtomicBool) -> Outcome {
        match call {
            Call::Request { action, arena } => self.perform(*action, done, arena, revoked),
            Call::Read { at, into } => self.perform_bytes(Direction::Read, *at, into, done),
            Call::Write { at, from } => {
                self.perform_bytes(Direction::Write(Durability::Visible), *at, from, done)
            }
            Call::Zero { at, len, unmap } => {
                self.zero(*at, *len, *unmap, Otherwise::Write, revoked)
            }
            Call::Discard { at, len } => self.discard(*at, *len),
            Call::Sync => self.flush(),
            Call::MakeRoom { at, len } => self.make_room(*at, *len),
            Call::Cut { end } => self.cut(*end),
        }
    }

    fn attempt_bytes(&self, direction: Direction, at: u64, memory: &Memory) -> Attempt {
        let refuses = match direction {
            Direction::Read => &self.reads_block,
            Direction::Write(_) => &self.writes_block,
        };
        let nowait = !self.in_memory;
        if nowait && refuses.load(Ordering::Relaxed) {
            return Attempt::WouldBlock { done: 0 };
        }
        let mut done = 0;
        while u64::from(done) < memory.len() {
            match self.some_bytes(direction, at, memory, done, How { nowait, durable: false }) {
                Ok(0) => return Attempt::Done(self.ended(direction, memory, done)),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if nowait && is_refusal(&error) => {
                    if error.raw_os_error() == Some(UNSUPPORTED) {
                        refuses.store(true, Ordering::Relaxed);
                    }
                    return Attempt::WouldBlock { done };
                }
                Err(error) => return Attempt::Done(Err(error.into())),
            }
        }
        Attempt::Done(Ok(()))
    }

    fn perform_bytes(&self, direction: Direction, at: u64, memory: &Memory, done: u32) -> Outcome {
        let mut done = done;
        while u64::from(done) < memory.len() {
            match self.some_bytes(direction, at, memory, done, How::default()) {
                Ok(0) => return self.ended(direction, memory, done),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            // Direct reads come by whole sectors but for the file's last one.
            let at_end = self.cache == CacheMode::None && !done.is_multiple_of(512);
            if at_end && direction == Direction::Read {
                return self.ended(direction, memory, done);
            }
        }
        Ok(())
    }

    fn ended(&self, direction: Direction, memory: &Memory, done: u32) -> Outcome {
        match direction {
            Direction::Read => memory.part(done.into(), memory.len()).zero(),
            Direction::Write(_) => Err(Failure::IO),
        }
    }

    fn some_bytes(
        &self,
        direction: Direction,
        at: u64,
        memory: &Memory,
        done: u32,
        how: How,
    ) -> io::Result<u32> {
        let heap = match memory {
            Memory::Arena { arena, span } => {
                return self.call(Transfer::of(direction, at, *span).after(done), arena, how);
            }
            Memory::Heap(heap) => heap,
        };
        let position = at + u64::from(done);
        let count = heap.with(|bytes| {
            let bytes = bytes.get_mut(done as usize..).unwrap_or_default();
            match direction {
                Direction::Read => file::read_bytes_at(&self.file, position, bytes, how),
                Direction::Write(_) => file::write_bytes_at(&self.file, position, bytes, how),
            }
        })?;
        if direction != Direction::Read {
            self.reached(position + count as u64);
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
