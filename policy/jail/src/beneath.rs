//! Writing files beneath a folder that is held by descriptor: the only way in which the sealed
//! launcher touches a file.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Writes `text` to a file that is there, in one call, as id maps and control groups demand.
pub fn write(folder: BorrowedFd<'_>, path: &str, text: &str) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(folder, path, flags, Mode::empty())?;
    std::fs::File::from(file).write_all(text.as_bytes())
}
