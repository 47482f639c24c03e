//! Signals as something to read, so that a command that is interrupted can clean up after itself.
//!
//! Looked at wherever the command waits: for the process that does the work, and for whoever reads what is
//! printed.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that end a command, and the one that asks how far it is.
const TAKEN: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1];

/// The user wants no more of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}: it was stopped before it was finished")]
pub struct Interrupted(pub Signal);

/// See the module.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// The number of the first one that ends a command; none has come: 0.
    ending: AtomicI32,
    /// Somebody wants to know how far it is.
    asked: AtomicBool,
}

impl Signals {
    /// Blocks them. Starting a program clears the mask.
    pub fn take() -> nix::Result<Self> {
        let set: SigSet = TAKEN.into_iter().collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let fd = SignalFd::with_flags(&set, flags)?;
        Ok(Self { fd, ending: AtomicI32::new(0), asked: AtomicBool::new(false) })
    }

    /// The one that ends the command, if one came. Once it has come it stays.
    pub fn ending(&self) -> Option<Signal> {
        self.look();
        Signal::try_from(self.ending.load(Ordering::Relaxed)).ok()
    }

    /// Whether somebody has asked how far it is since this was last looked at.
    pub fn is_asked(&self) -> bool {
        self.look();
        self.asked.swap(false, Ordering::Relaxed)
    }

    fn look(&self) {
        while let Ok(Some(info)) = self.fd.read_signal() {
            match i32::try_from(info.ssi_signo) {
                Ok(number) if number == Signal::SIGUSR1 as i32 => {
                    self.asked.store(true, Ordering::Relaxed);
                }
                Ok(number) => {
                    let only = Ordering::Relaxed;
                    let _later = self.ending.compare_exchange(0, number, only, only);
                }
                Err(_) => {}
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
