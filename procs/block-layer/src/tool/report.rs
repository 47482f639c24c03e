//! What a command tells while it works, and how it ends.

use std::cell::Cell;

use anyhow::Result;
use bulkhead_channel::ChannelError;
use bulkhead_protocol::tool::{LONGEST_TEXT, ToolCommand, ToolEvent};
use bulkhead_runtime::{Helper, RuntimeError};

use super::files::Blame;

/// Parts into which progress is told: hundredths of a percent.
const PARTS: u64 = 10_000;

/// The user's end.
#[derive(Debug)]
pub struct Report {
    helper: Helper<ToolCommand, ToolEvent>,
    /// The last part that was told.
    part: Cell<u64>,
}

impl Report {
    /// Nothing was told yet.
    pub fn new(helper: Helper<ToolCommand, ToolEvent>) -> Self {
        Self { helper, part: Cell::new(u64::MAX) }
    }

    /// Tells. A user who was stopped, or whose pager is full, takes as long as he takes.
    pub fn tell(&self, event: ToolEvent) -> Result<()> {
        loop {
            match self.helper.event(&event) {
                Err(RuntimeError::Channel(ChannelError::Deadline)) => {}
                other => return Ok(other?),
            }
        }
    }

    /// `done` of `all` is.
    pub fn progress(&self, done: u64, all: u64) -> Result<()> {
        let part = (u128::from(done) * u128::from(PARTS) / u128::from(all.max(1))) as u64;
        match self.part.replace(part) == part {
            true => Ok(()),
            false => self.tell(ToolEvent::Progress { done, all }),
        }
    }

    /// Says how it ended.
    pub fn end(&self, done: Result<()>) -> Result<()> {
        let Err(error) = done else {
            return self.tell(ToolEvent::Done);
        };
        // Without the user nobody is left to be told.
        if let Some(RuntimeError::Closed) = error.downcast_ref() {
            return Err(error);
        }
        let (file, reason) = match error.downcast_ref::<Blame>() {
            Some(Blame { file, reason }) => (Some(*file), reason.clone()),
            None => (None, format!("{error:#}")),
        };
        self.tell(ToolEvent::Failed { file, reason: cut(reason) })
    }
}

/// A text from an image, as far as a message has room for it.
pub fn cut(mut text: String) -> String {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
