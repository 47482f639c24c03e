//! How far a command is, on the terminal, as qemu-img shows it.

use std::io::Write;

/// Shown only if it was asked for.
#[derive(Debug)]
pub struct Progress {
    on: bool,
    /// Hundredths of a percent that stand there.
    shown: Option<u64>,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new(on: bool) -> Self {
        Self { on, shown: None }
    }

    /// `done` of `all` is.
    pub fn show(&mut self, done: u64, all: u64) {
        let part = (u128::from(done) * 10_000 / u128::from(all.max(1))) as u64;
        if !self.on || self.shown == Some(part) {
            return;
        }
        self.shown = Some(part);
        print!("    ({}.{:02}/100%)\r", part / 100, part % 100);
        let _ = std::io::stdout().flush();
    }

    /// All is.
    pub fn end(&mut self) {
        self.show(1, 1);
        if self.on {
            println!();
        }
    }
}
