//! What an attempt has at hand: more than a helper is ever given.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::call::sys;

/// Descriptors and numbers that the test hands over.
pub struct Scene {
    fds: Vec<OwnedFd>,
    numbers: Vec<i64>,
}

impl Scene {
    pub fn new(fds: Vec<OwnedFd>, numbers: Vec<i64>) -> Self {
        Self { fds, numbers }
    }

    fn fd(&self, index: usize) -> u64 {
        self.fds.get(index).map_or(u64::MAX, |fd| fd.as_raw_fd() as u64)
    }

    fn number(&self, index: usize) -> u64 {
        self.numbers.get(index).copied().unwrap_or(-1) as u64
    }

    /// A regular file, open for reading only.
    pub fn read_only_file(&self) -> u64 {
        self.fd(0)
    }

    /// A directory of the host's with the files `secret` and `victim`.
    pub fn directory(&self) -> u64 {
        self.fd(1)
    }

    /// A pidfd of the victim.
    pub fn victim_pidfd(&self) -> u64 {
        self.fd(2)
    }

    /// The host's network namespace.
    pub fn host_network(&self) -> u64 {
        self.fd(3)
    }

    /// The probe itself, which exits 77 when its name is `executed`.
    pub fn program(&self) -> u64 {
        self.fd(4)
    }

    /// A memory object that holds [`crate::code::FORTY_TWO`].
    pub fn code(&self) -> u64 {
        self.fd(5)
    }

    /// The victim's pid on the host.
    pub fn victim(&self) -> u64 {
        self.number(0)
    }

    /// A port of the host on which somebody listens.
    pub fn port(&self) -> u16 {
        self.number(1) as u16
    }
}

/// What an attempt got: bytes that nobody in the jail should have.
pub type Loot = io::Result<Vec<u8>>;

/// Address of a string.
pub fn at(text: &CStr) -> u64 {
    text.as_ptr() as u64
}

/// Address of a value that the kernel reads or writes.
pub fn of<T>(value: &mut T) -> u64 {
    std::ptr::from_mut(value) as u64
}

/// The first bytes of a descriptor.
pub fn read(fd: u64) -> Loot {
    let mut bytes = vec![0u8; 32];
    let len = sys(libc::SYS_read, [fd, bytes.as_mut_ptr() as u64, bytes.len() as u64])?;
    bytes.truncate(len as usize);
    if bytes.is_empty() { Err(nothing()) } else { Ok(bytes) }
}

/// A call that succeeded without an effect.
pub fn nothing() -> io::Error {
    io::Error::from_raw_os_error(0)
}

/// A number as loot.
pub fn number(result: io::Result<u64>) -> Loot {
    result.map(|number| number.to_le_bytes().to_vec())
}
