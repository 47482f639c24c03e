//! Where the guest's byte streams go: threads that copy between a stream and its outlet.
//!
//! Blocking copies in threads of their own, so that a terminal that was stopped by Ctrl-S delays the
//! guest's output and nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::Context;
use bulkhead_channel::Channel;
use bulkhead_protocol::session::SessionCommand;
use nix::fcntl::OFlag;

use crate::options::{Console, Serial};

/// Ctrl-], as telnet has it.
const ESCAPE: u8 = 0x1d;

/// Says when everything that the guest wrote has reached its outlet.
pub type Drained = Receiver<()>;

/// Connects ttyS0's stream.
pub fn serial(serial: &Serial, ours: UnixStream) -> anyhow::Result<Drained> {
    match serial {
        Serial::File(path) => to_file(path, ours, "--serial"),
        Serial::Stdio | Serial::Off => copy_out(ours, std::io::stdout()),
    }
}

/// Connects the virtio-console's stream.
pub fn console(console: &Console, ours: UnixStream) -> anyhow::Result<Drained> {
    match console {
        Console::File(path) => to_file(path, ours, "--console"),
        Console::Stdio | Console::Off => copy_out(ours, std::io::stdout()),
        Console::Pty => to_pty(ours),
        Console::Socket(path) => to_socket(path, ours),
    }
}

fn to_file(path: &std::path::Path, ours: UnixStream, option: &str) -> anyhow::Result<Drained> {
    let file = File::options().append(true).create(true).open(path).map_err(|error| {
        let value = format!("file={}", path.display());
        crate::refusal::refuse(option, &value, error.to_string(), "give a file you can write")
    })?;
    copy_out(ours, file)
}

fn to_pty(ours: UnixStream) -> anyhow::Result<Drained> {
    let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    nix::pty::grantpt(&master)?;
    nix::pty::unlockpt(&master)?;
    let name = nix::pty::ptsname_r(&master)?;
    // Held open so that a viewer who leaves does not end the stream.
    let held = File::options().read(true).write(true).open(&name)?;
    set_raw(&held)?;
    eprintln!("bulkhead: console at {name}");
    let master = File::from(master.as_fd().try_clone_to_owned()?);
    let input = master.try_clone()?;
    let into = ours.try_clone()?;
    thread::spawn(move || {
        let _held = held;
        copy(input, into);
    });
    copy_out(ours, master)
}

fn set_raw(terminal: &File) -> nix::Result<()> {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    let mut settings = tcgetattr(terminal)?;
    cfmakeraw(&mut settings);
    tcsetattr(terminal, SetArg::TCSANOW, &settings)
}

fn to_socket(path: &std::path::Path, ours: UnixStream) -> anyhow::Result<Drained> {
    let refuse = |error: std::io::Error| {
        let value = format!("socket={}", path.display());
        crate::refusal::refuse("--console", &value, error.to_string(), "give a path that is free")
    };
    let listener = UnixListener::bind(path).map_err(refuse)?;
    let (done, drained) = channel();
    let path = path.to_owned();
    thread::spawn(move || {
        let _removed = RemoveOnDrop(path);
        let _done = done;
        for viewer in listener.incoming().flatten() {
            let (Ok(from_viewer), Ok(to_guest)) = (viewer.try_clone(), ours.try_clone()) else {
                continue;
            };
            thread::spawn(move || copy(from_viewer, to_guest));
            let Ok(from_guest) = ours.try_clone() else {
                continue;
            };
            if copy(from_guest, viewer) == Ended::Source {
                return;
            }
        }
    });
    Ok(drained)
}

#[derive(Debug)]
struct RemoveOnDrop(std::path::PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Which side ended a copy.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Source,
    Destination,
}

fn copy(mut from: impl Read, mut to: impl Write) -> Ended {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) | Err(_) => return Ended::Source,
            Ok(len) => len,
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
            return Ended::Destination;
        }
    }
}

fn copy_out(mut ours: UnixStream, to: impl Write + Send + 'static) -> anyhow::Result<Drained> {
    let (done, drained) = channel();
    thread::Builder::new().name("output".into()).spawn(move || {
        let _done = done;
        if copy(&ours, to) == Ended::Destination {
            // Nobody reads any more; the guest must not notice.
            let _ = std::io::copy(&mut ours, &mut std::io::sink());
        }
    })?;
    Ok(drained)
}

/// What an escape sequence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Leave: end the VM, or detach from it.
    Quit,
    /// Press the power button.
    PowerButton,
}

/// Splits terminal input into bytes for the guest and what the escape key asks for. Ctrl-] twice is
/// one Ctrl-] for the guest.
#[derive(Debug, Default)]
pub struct EscapeFilter {
    escaped: bool,
}

impl EscapeFilter {
    /// Takes one byte.
    pub fn take(&mut self, byte: u8) -> (Option<u8>, Option<Asked>) {
        match (std::mem::take(&mut self.escaped), byte) {
            (false, ESCAPE) => {
                self.escaped = true;
                (None, None)
            }
            (true, b'q' | b'x') => (None, Some(Asked::Quit)),
            (true, b'p') => (None, Some(Asked::PowerButton)),
            (_, byte) => (Some(byte), None),
        }
    }
}

/// Copies stdin to the guest. On a raw terminal the escape key is obeyed.
pub fn feed_stdin(ours: UnixStream, session: Arc<Channel>, raw: bool, timeout_ms: u64) {
    thread::spawn(move || {
        let obey = |asked| {
            let command = match asked {
                Asked::Quit => SessionCommand::Kill,
                Asked::PowerButton => SessionCommand::Shutdown { timeout_ms },
            };
            let _ = session.send(&command, &[]);
        };
        pump_stdin(ours, raw, obey);
    });
}

fn pump_stdin(mut guest: UnixStream, raw: bool, mut obey: impl FnMut(Asked)) {
    let mut filter = EscapeFilter::default();
    let mut buffer = [0; 4096];
    let mut stdin = std::io::stdin().lock();
    while let Ok(len @ 1..) = stdin.read(&mut buffer) {
        let bytes = buffer.get(..len).unwrap_or_default();
        let mut passed = Vec::with_capacity(len);
        for byte in bytes {
            match filter.take(*byte) {
                _ if !raw => passed.push(*byte),
                (byte, asked) => {
                    passed.extend(byte);
                    asked.into_iter().for_each(&mut obey);
                }
            }
        }
        if guest.write_all(&passed).is_err() {
            return;
        }
    }
}

/// Joins the user's terminal to `stream` until the escape key or the end of either
/// (`bulkhead console`).
pub fn join_terminal(stream: OwnedFd) -> anyhow::Result<()> {
    let stream = UnixStream::from(stream);
    let raw = super::terminal::RawMode::enter();
    if raw.is_some() {
        eprint!("bulkhead: attached; Ctrl-] q detaches\r\n");
    }
    let output = stream.try_clone().context("console stream")?;
    let drained = copy_out(output, std::io::stdout())?;
    let input = stream.try_clone().context("console stream")?;
    let is_raw = raw.is_some();
    thread::spawn(move || {
        let ends = input.try_clone();
        pump_stdin(input, is_raw, |asked| {
            if asked == Asked::Quit
                && let Ok(stream) = &ends
            {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
    });
    let _ = drained.recv();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &[u8]) -> (Vec<u8>, Vec<Asked>) {
        let mut filter = EscapeFilter::default();
        let taken: Vec<_> = text.iter().map(|byte| filter.take(*byte)).collect();
        let bytes = taken.iter().filter_map(|(byte, _)| *byte).collect();
        (bytes, taken.iter().filter_map(|(_, asked)| *asked).collect())
    }

    #[test]
    fn the_escape_key_asks_and_twice_is_itself() {
        assert_eq!(feed(b"ls\x1dq"), (b"ls".to_vec(), vec![Asked::Quit]));
        assert_eq!(feed(b"a\x1d\x1db"), (b"a\x1db".to_vec(), vec![]));
        assert_eq!(feed(b"\x1dp"), (vec![], vec![Asked::PowerButton]));
    }
}
