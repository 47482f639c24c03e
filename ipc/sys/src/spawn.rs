//! Starting a program with chosen descriptors: the command starts the supervisor, the supervisor
//! its launcher. Children in jails are the launcher's matter and are cloned elsewhere.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts `command` in a session of its own, with each descriptor of `fds` under its number. All
/// others of ours are close-on-exec. The numbers must be distinct, above 2 and below 16.
///
/// A session of its own: a terminal's Ctrl-C is for the command, which decides what becomes of it.
pub fn spawn(command: &mut Command, fds: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<Child> {
    // Lift every source above the targets first, so that no dup2 lands on a source still needed.
    let mut lifted = Vec::with_capacity(fds.len());
    for (source, target) in fds {
        let copy = nix::fcntl::fcntl(source, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(16))?;
        lifted.push((Lifted(copy), *target));
    }
    let plan: Vec<(RawFd, RawFd)> =
        lifted.iter().map(|(copy, target)| (copy.0.as_raw_fd(), *target)).collect();
    let in_child = move || {
        nix::unistd::setsid()?;
        for (source, target) in &plan {
            duplicate_to(*source, *target)?;
        }
        Ok(())
    };
    // SAFETY: the closure calls setsid and dup2 only, which are async-signal-safe, and allocates
    // nothing.
    unsafe { command.pre_exec(in_child) };
    let child = command.spawn();
    drop(lifted);
    child
}

struct Lifted(RawFd);

impl Drop for Lifted {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.0);
    }
}

fn duplicate_to(source: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: runs in the child between fork and exec, where `target` belongs to nobody.
    match unsafe { libc::dup2(source, target) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_child_finds_its_descriptor_under_the_number() {
        let (a, b) = crate::seqpacket::stream_pair().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo hello >&3"]);
        let mut child = spawn(&mut command, &[(b.as_fd(), 3)]).unwrap();
        drop(b);
        assert!(child.wait().unwrap().success());
        let mut text = [0; 16];
        let len = nix::unistd::read(&a, &mut text).unwrap();
        assert_eq!(&text[..len], b"hello\n");
    }
}
