//! The image: a file or block device, and the calls that are made on it.
//!
//! Two ways lead to the file. [`Image::attempt`] is for the threads that others wait for: it never
//! blocks, and says how much is left for a worker. [`Image::perform`] is the worker's: plain blocking
//! calls, one after the other, that stop early when the requester is gone.
//!
//! What a host can do differs by file system and direction, so it is found out by doing: the first
//! refusal of `RWF_NOWAIT` or of a kind of `fallocate` is remembered.
//!
//! Why not io_uring: an operation that the kernel's own workers finish can land in the file after this
//! process was reaped, on top of what its successor wrote meanwhile (15 of 16 did, measured).

mod call;
mod direct;
mod flush;
mod length;
mod open;
mod status;
mod transfer;
mod zero;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bulkhead_protocol::device::DiskInfo;
use bulkhead_protocol::spec::CacheMode;
use bulkhead_ring::Arena;
use bulkhead_sys::file::FileKind;

use crate::outcome::Outcome;
use crate::request::Action;

pub use call::Call;
pub use open::OpenError;
use transfer::{Direction, Transfer};
use zero::Otherwise;

/// An open image. Shared by lanes, nodes and workers; its knowledge only ever grows.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
    kind: FileKind,
    cache: CacheMode,
    /// tmpfs: I/O is a copy, it never waits.
    in_memory: bool,
    info: DiskInfo,
    /// `RWF_NOWAIT` reads are refused by this file.
    reads_block: AtomicBool,
    /// `RWF_NOWAIT` writes are refused by this file.
    writes_block: AtomicBool,
    /// Which kinds of `fallocate` are refused.
    refused: zero::Refused,
    /// The file is at least that long.
    length: AtomicU64,
    /// A flush has failed: pages were dropped, and no later flush may claim otherwise.
    unsafe_to_flush: AtomicBool,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is over.
    Done(Outcome),
    /// It would block. That many bytes are done.
    WouldBlock {
        /// Bytes already transferred.
        done: u32,
    },
}

impl Image {
    /// What the disk is, as the guest is told.
    pub fn info(&self) -> DiskInfo {
        self.info
    }

    /// Does `action` if that cannot block.
    #[inline]
    pub fn attempt(&self, action: Action, arena: &Arena) -> Attempt {
        match action {
            Action::Read { at, span } => {
                self.attempt_transfer(Transfer::of(Direction::Read, at, span), arena)
            }
            Action::Write { at, span, durability } => {
                self.attempt_transfer(Transfer::of(Direction::Write(durability), at, span), arena)
            }
            Action::Flush if !self.flush_reaches_a_device() => Attempt::Done(Ok(())),
            Action::Flush
            | Action::Discard { .. }
            | Action::Zero { .. }
            | Action::Status { .. } => Attempt::WouldBlock { done: 0 },
        }
    }

    /// Does what is left of `action`, however long it takes. Gives up between two calls once
    /// `revoked` is set: the requester is dead.
    pub fn perform(
        &self,
        action: Action,
        done: u32,
        arena: &Arena,
        revoked: &AtomicBool,
    ) -> Outcome {
        match action {
            Action::Read { at, span } => {
                let transfer = Transfer::of(Direction::Read, at, span).after(done);
                self.transfer(transfer, arena, revoked)
            }
            Action::Write { at, span, durability } => {
                let transfer = Transfer::of(Direction::Write(durability), at, span).after(done);
                self.transfer(transfer, arena, revoked)
            }
            Action::Flush => self.flush(),
            Action::Discard { at, len } => self.discard(at, len),
            Action::Zero { at, len, unmap, fast } => {
                let otherwise = if fast { Otherwise::Refuse } else { Otherwise::Write };
                self.zero(at, len, unmap, otherwise, revoked)
            }
            Action::Status { at, len, span, .. } => self.status(at, len, span, arena),
        }
    }
}
