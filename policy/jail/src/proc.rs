//! The host's `/proc`, held by descriptor: where a child's id maps are written.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

/// A folder descriptor of `/proc`.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// Opens it. For the launcher, before it is sealed.
    pub fn open() -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(open("/proc", flags, Mode::empty())?))
    }

    /// Writes `text` to a file of process `pid`, in one call as id maps demand.
    pub fn write(&self, pid: i32, file: &str, text: &str) -> io::Result<()> {
        write_at(self.0.as_fd(), &format!("{pid}/{file}"), text)
    }
}

/// Writes `text` to a file beneath a folder, in one call.
pub fn write_at(folder: BorrowedFd<'_>, path: &str, text: &str) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(folder, path, flags, Mode::empty())?;
    std::fs::File::from(file).write_all(text.as_bytes())
}
