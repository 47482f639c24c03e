//! What is printed. Text from an image is made harmless for a terminal first; JSON does that by itself.
//!
//! Law: nobody who does not read holds a command back from obeying a signal. Whoever writes waits for room
//! and for signals alike, and writes no more at a time than there is room for.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::signals::{Interrupted, Signals};

/// Bytes for which a pipe has room if it has any (POSIX: PIPE_BUF).
const AT_ONCE: usize = 4096;

/// The same of a terminal, which is ready as long as it has fewer than so many to show.
const ON_TERMINAL: usize = 256;

/// Who may end a command that waits here.
static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// From now on signals end whoever waits for a reader.
pub fn obey(signals: Signals) -> &'static Signals {
    SIGNALS.get_or_init(|| signals)
}

/// The standard output, or the one for errors. What is written is written at once: see
/// [`std::io::BufWriter`].
#[derive(Debug, Clone, Copy)]
pub enum Out {
    /// For results.
    Standard,
    /// For what is wrong.
    Error,
}

/// A line on the standard output.
pub fn line(text: impl Display) -> io::Result<()> {
    Out::Standard.write_all(format!("{text}\n").as_bytes())
}

/// A line on the standard error.
pub fn complaint(text: impl Display) -> io::Result<()> {
    Out::Error.write_all(format!("{text}\n").as_bytes())
}

/// Text without characters that a terminal obeys.
pub fn clean(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}").into(),
        false => text.into(),
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (standard, error) = (io::stdout(), io::stderr());
        let out = match self {
            Self::Standard => standard.as_fd(),
            Self::Error => error.as_fd(),
        };
        if let Some(signals) = SIGNALS.get() {
            wait_for_room(out, signals)?;
        }
        let most = if out.is_terminal() { ON_TERMINAL } else { AT_ONCE };
        let some = bytes.get(..most).unwrap_or(bytes);
        Ok(nix::unistd::write(out, some)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the reader has taken something, or is gone.
fn wait_for_room(out: impl AsFd, signals: &Signals) -> io::Result<()> {
    loop {
        if let Some(signal) = signals.ending() {
            return Err(io::Error::other(Interrupted(signal)));
        }
        let watch = |fd, what| PollFd::new(fd, what);
        let mut set =
            [watch(out.as_fd(), PollFlags::POLLOUT), watch(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut set, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.map(drop)?,
        }
        if set[0].any() == Some(true) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_an_image() {
        assert_eq!(clean("base.q"), "base.q");
        assert_eq!(clean("a\x1b[2Jb\u{9b}c\n"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
    }
}
