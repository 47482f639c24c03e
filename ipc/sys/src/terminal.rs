//! The size of a terminal.

use std::os::fd::{AsFd, AsRawFd};

nix::ioctl_read_bad!(
    /// `TIOCGWINSZ`: rows and columns of a terminal.
    window_size,
    libc::TIOCGWINSZ,
    libc::winsize
);

/// Columns and rows of the terminal behind `fd`, if it is one.
pub fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    let mut found = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer it is given.
    unsafe { window_size(fd.as_fd().as_raw_fd(), &mut found) }.ok()?;
    Some((found.ws_col, found.ws_row))
}
