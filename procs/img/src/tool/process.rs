//! One block-tool: its channel, its log, its end.
//!
//! Law: it never outlives this. Whoever drops it has waited until the kernel has given its files back, so
//! that the next command finds them unlocked.

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow};
use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::start::{FromHelper, SealReport};
use bulkhead_protocol::tool::ToolEvent;
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::pidfd::PidFd;

use super::launch::PATIENCE;

/// Bytes of a log that are read.
const CHUNK: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Process {
    /// Commands and what comes of them.
    pub channel: Channel,
    pub(super) pidfd: PidFd,
    pub(super) log: Log,
}

/// What a process has to say that nobody asked for.
#[derive(Debug)]
pub struct Log(pub(super) OwnedFd);

impl Process {
    /// Its report on the seal.
    pub(super) fn sealed(&mut self) -> Result<SealReport> {
        match self.channel.receive_by(Deadline::after(PATIENCE)) {
            Ok((FromHelper::<ToolEvent>::Sealed(report), _)) => Ok(report),
            Ok(_) => Err(anyhow!("the block-tool did not seal itself")),
            Err(ChannelError::Closed) => Err(self.obituary()),
            Err(error) => Err(anyhow!("the block-tool: {error}")),
        }
    }

    /// How it died, in one line.
    pub fn obituary(&mut self) -> anyhow::Error {
        let _ = self.pidfd.wait_dead(Deadline::after(PATIENCE));
        let how = match self.pidfd.reap() {
            Ok(Some(death)) => death.to_string(),
            Ok(None) => "it hangs".to_owned(),
            Err(error) => error.to_string(),
        };
        let words = self.log.last_words();
        let separator = if words.is_empty() { "" } else { ": " };
        anyhow!("the process that did the work has died ({how}){separator}{words}")
    }

    /// Ends it, whatever it does.
    pub fn end(&self) {
        // Errors: it was reaped already.
        let _ = self.pidfd.kill();
        let _ = self.pidfd.wait_dead(Deadline::after(PATIENCE));
        let _ = self.pidfd.reap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Log {
    /// The last line.
    pub fn last_words(&self) -> String {
        let mut bytes = [0; CHUNK];
        let len = nix::unistd::read(&self.0, &mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned();
        crate::out::clean(text.lines().last().unwrap_or_default()).into_owned()
    }
}
