//! How far a command is: on the terminal, as qemu-img shows it, and for whoever sends SIGUSR1.

use std::io::Write;

use anyhow::Result;

use crate::out::Out;

/// Shown only if it was asked for.
#[derive(Debug)]
pub struct Progress {
    on: bool,
    /// Hundredths of a percent.
    part: u64,
    /// They stand on the terminal.
    shown: bool,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new(on: bool) -> Self {
        Self { on, part: 0, shown: false }
    }

    /// `done` of `all` is.
    pub fn show(&mut self, done: u64, all: u64) -> Result<()> {
        let done = done.min(all);
        let part = (u128::from(done) * 10_000 / u128::from(all.max(1))) as u64;
        if !self.on || (self.shown && self.part == part) {
            self.part = part;
            return Ok(());
        }
        (self.part, self.shown) = (part, true);
        write!(Out::Standard, "    ({}.{:02}/100%)\r", part / 100, part % 100)?;
        Ok(())
    }

    /// All is.
    pub fn end(&mut self) -> Result<()> {
        if self.on {
            self.show(1, 1)?;
            crate::out::line("")?;
        }
        Ok(())
    }

    /// Says it once.
    pub fn say(&self) {
        eprintln!("    ({}.{:02}/100%)", self.part / 100, self.part % 100);
    }
}
