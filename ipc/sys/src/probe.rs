//! An attempt that must fail: how a process shows that it is walled in.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// Tries to open the root directory and drops it again at once. In an empty root without Landlock
/// this succeeds, so that a refusal proves Landlock.
pub fn open_root() -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root: OwnedFd = open("/", flags, Mode::empty())?;
    drop(root);
    Ok(())
}
