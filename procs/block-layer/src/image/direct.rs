//! Transfers past the page cache, which always wait for the device: a lane keeps many in flight by
//! Linux AIO, where one worker each would cost a thread and two switches.

use std::io;

use bulkhead_protocol::spec::CacheMode;
use bulkhead_ring::Arena;
use bulkhead_sys::aio::{Aio, Direction, Piece};
use bulkhead_sys::eventfd::Doorbell;

use super::Image;
use crate::outcome::{Failure, Outcome};
use crate::request::{Action, Durability, Span};

/// How a transfer came down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// It is over.
    Done(Outcome),
    /// A worker must do what is left after that many bytes: the submission would have had to wait
    /// (for an allocation, say), or it came back short.
    Rest(u32),
}

impl Image {
    /// Prepares `action` for asynchronous I/O, with `bell` to be rung when it is over. `Err`: it is no
    /// such action, or there is no room; a worker must do it.
    pub fn prepare<T>(
        &self,
        action: Action,
        arena: &Arena,
        aio: &mut Aio<T>,
        bell: &Doorbell,
        owner: T,
    ) -> Result<(), T> {
        let Some((direction, at, span)) = self.direct(action) else {
            return Err(owner);
        };
        let Ok(slice) = arena.check(u64::from(span.offset), u64::from(span.len)) else {
            return Err(owner);
        };
        let (offset, len) = (slice.offset(), slice.len());
        let piece = Piece { direction, position: at, offset, len, nowait: true };
        aio.prepare(&self.file, slice.mapping(), piece, bell, owner)
    }

    fn direct(&self, action: Action) -> Option<(Direction, u64, Span)> {
        if self.cache != CacheMode::None || self.in_memory {
            return None;
        }
        match action {
            Action::Read { at, span } => Some((Direction::Read, at, span)),
            Action::Write { at, span, durability: Durability::Visible } => {
                Some((Direction::Write, at, span))
            }
            // Forced unit access includes a flush, which blocks.
            _ => None,
        }
    }
}

/// What the kernel's answer to a transfer of `action` means.
pub fn landing(action: Action, result: io::Result<usize>) -> Landing {
    let len = match action {
        Action::Read { span, .. } | Action::Write { span, .. } => span.len,
        _ => 0,
    };
    match result {
        Ok(count) if count as u64 >= u64::from(len) => Landing::Done(Ok(())),
        Ok(count) => Landing::Rest(count as u32),
        Err(error) if super::transfer::is_refusal(&error) => Landing::Rest(0),
        Err(error) => Landing::Done(Err(Failure::from(error))),
    }
}
