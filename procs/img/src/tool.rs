//! The sealed process that does the work, a block-tool, and what is said with it.
//!
//! ```text
//! Launcher::start ─▶ files are opened ─▶ Launcher::tool: jail, seal, attested
//!                                            │ command + files
//!                          each(event) ◀─────┤
//!              Done, Failed or a death ◀─────┘
//! ```
//!
//! Law: whatever it says is data of an image that may be hostile. It is printed, and never decides which
//! file is opened unless the user has asked for that. Its death is one error, and no more.

mod launch;
mod process;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};
use bulkhead_channel::ChannelError;
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_protocol::tool::{ToolCommand, ToolEvent};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::readiness::wait_readable;

use crate::file::OpenFile;
use crate::out::clean;
use crate::progress::Progress;
use crate::signals::{Interrupted, Signals};

pub use launch::Launcher;
use launch::PATIENCE;
use process::Process;

/// Most files of a command: a message carries no more.
const MOST_FILES: usize = 64;

/// What every command works with.
#[derive(Debug)]
pub struct Front {
    launcher: Launcher,
    signals: &'static Signals,
    progress: Progress,
    /// A command has said that its target holds nothing of what it held.
    emptied: bool,
}

impl Front {
    /// Starts the launcher, while files are still to be opened.
    pub fn start(weaker: &[String], signals: &'static Signals) -> Result<Self> {
        let launcher = Launcher::start(weaker)?;
        Ok(Self { launcher, signals, progress: Progress::new(false), emptied: false })
    }

    /// Whether progress is shown.
    pub fn show_progress(&mut self, on: bool) {
        self.progress = Progress::new(on);
    }

    /// Whether a command has said that what its target held is gone.
    pub fn has_emptied(&self) -> bool {
        self.emptied
    }

    /// Has a command done, and calls `each` for what is told meanwhile.
    pub fn run(
        &mut self,
        command: ToolCommand,
        files: &[&OpenFile],
        each: impl FnMut(ToolEvent) -> Result<()>,
    ) -> Result<()> {
        self.run_with(0, command, files, each)
    }

    /// The same, by so many threads that compress.
    pub fn run_with(
        &mut self,
        threads: usize,
        command: ToolCommand,
        files: &[&OpenFile],
        each: impl FnMut(ToolEvent) -> Result<()>,
    ) -> Result<()> {
        if files.len() > MOST_FILES {
            bail!("{} files are too many; a command has at most {MOST_FILES}", files.len());
        }
        let mut process = self.launcher.tool(threads)?;
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.fd.as_fd()).collect();
        let command = ToHelper::Role(command);
        match process.channel.send_by(&command, &fds, Deadline::after(PATIENCE)) {
            Err(ChannelError::Codec(_)) => bail!("the names on the command line are too long"),
            other => other?,
        }
        let done = self.hear(&mut process, files, each);
        if done.is_err() {
            process.end();
            // Said, and not heard before something else ended it.
            while let Ok(Some((message, _))) = process.channel.try_receive() {
                self.emptied |= matches!(message, FromHelper::Role(ToolEvent::Emptied));
            }
        }
        done
    }

    /// Listens until all is done.
    fn hear(
        &mut self,
        process: &mut Process,
        files: &[&OpenFile],
        mut each: impl FnMut(ToolEvent) -> Result<()>,
    ) -> Result<()> {
        loop {
            if let Some(signal) = self.signals.ending() {
                return Err(Interrupted(signal).into());
            }
            if self.signals.is_asked() {
                self.progress.say();
            }
            match process.channel.try_receive::<FromHelper<ToolEvent>>() {
                Ok(Some((FromHelper::Role(ToolEvent::Done), _))) => break,
                Ok(Some((FromHelper::Role(ToolEvent::Failed { file, reason }), _))) => {
                    return Err(failure(files, file, &reason));
                }
                Ok(Some((FromHelper::Role(ToolEvent::Progress { done, all }), _))) => {
                    self.progress.show(done, all)?;
                }
                Ok(Some((FromHelper::Role(ToolEvent::Emptied), _))) => self.emptied = true,
                Ok(Some((FromHelper::Role(event), _))) => each(event)?,
                Ok(Some(_)) => {}
                Ok(None) => self.rest(process)?,
                Err(ChannelError::Closed) => return Err(process.obituary()),
                Err(error) => bail!("what the block-tool says cannot be understood: {error}"),
            }
        }
        self.progress.end()
    }

    fn rest(&self, process: &Process) -> io::Result<()> {
        wait_readable([process.channel.as_fd(), self.signals.as_fd()], None)?;
        Ok(())
    }
}

fn failure(files: &[&OpenFile], file: Option<u16>, reason: &str) -> anyhow::Error {
    let reason = clean(reason);
    match file.and_then(|file| files.get(usize::from(file))) {
        Some(file) => anyhow::anyhow!("{}: {reason}", file.path.display()),
        None => anyhow::anyhow!("{reason}"),
    }
}
