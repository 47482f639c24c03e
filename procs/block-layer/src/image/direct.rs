//! Transfers that the kernel makes by itself while a lane goes on: Linux AIO, on a file that is open for
//! direct I/O.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bulkhead_protocol::spec::CacheMode;
use bulkhead_ring::Arena;
use bulkhead_sys::aio::Transfer;

use super::Image;
use crate::request::{Action, Durability};

impl Image {
    /// The one transfer that does what `action` asks; `None`: there is none, or the kernel would make its
    /// caller wait for it.
    pub fn by_itself(&self, action: Action, arena: &Arena) -> Option<Transfer> {
        if self.cache != CacheMode::None || self.in_memory {
            return None;
        }
        let (write, at, span) = match action {
            Action::Read { at, span } => (false, at, span),
            Action::Write { at, span, durability: Durability::Visible } => (true, at, span),
            _ => return None,
        };
        let slice = arena.check(span.offset.into(), span.len.into()).ok()?;
        Some(Transfer {
            write,
            position: at,
            mapping: Arc::clone(arena.shared_mapping()),
            offset: slice.offset(),
            len: slice.len(),
        })
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
