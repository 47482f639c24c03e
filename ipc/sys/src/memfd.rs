//! Shared memory objects that no peer can shrink.
//!
//! Called by the supervisor, which makes every shared object of a VM; holders call [`verify_sealed`]
//! before they map one. A peer that could truncate a memfd would kill its holders by SIGBUS, so the
//! size is sealed before the descriptor leaves the process that made it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

/// `MFD_NOEXEC_SEAL` of linux/memfd.h (6.3): the object can never be executed.
const MFD_NOEXEC_SEAL: u32 = 0x0008;

/// Why a descriptor is not the sealed memory object it was said to be.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The descriptor carries no seals: not a memfd, or one made without `MFD_ALLOW_SEALING`.
    #[error("the descriptor is not a sealable memory object")]
    NotSealable,
    /// `F_SEAL_SHRINK` is missing.
    #[error("the memory object can still shrink")]
    CanShrink,
    /// The object is shorter than its plan says.
    #[error("the memory object has {found} bytes, {expected} were planned")]
    TooShort {
        /// Bytes there are.
        found: u64,
        /// Bytes there must be.
        expected: u64,
    },
    /// The kernel refused to answer.
    #[error("the memory object cannot be examined: {0}")]
    Host(#[from] io::Error),
}

/// Makes a memory object of `len` bytes, zero-filled, sealed against SHRINK, GROW and further seals.
pub fn create_sealed(name: &str, len: u64) -> io::Result<OwnedFd> {
    let fd = create(name)?;
    let len = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    ftruncate(&fd, len)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let noexec = MFdFlags::from_bits_retain(flags.bits() | MFD_NOEXEC_SEAL as libc::c_uint);
    match memfd_create(name, noexec) {
        Err(nix::errno::Errno::EINVAL) => Ok(memfd_create(name, flags)?),
        other => Ok(other?),
    }
}

/// Checks that `fd` is a memory object that cannot shrink and holds at least `len` bytes.
pub fn verify_sealed(fd: BorrowedFd<'_>, len: u64) -> Result<(), SealError> {
    let bits = fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|_| SealError::NotSealable)?;
    if !SealFlag::from_bits_retain(bits).contains(SealFlag::F_SEAL_SHRINK) {
        return Err(SealError::CanShrink);
    }
    let found = size(fd)?;
    if found < len {
        return Err(SealError::TooShort { found, expected: len });
    }
    Ok(())
}

/// Size of the object behind `fd` in bytes.
pub fn size(fd: impl AsFd) -> io::Result<u64> {
    let stat = crate::stat::of(fd)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// Whether two descriptors name the same object (device and inode).
pub fn same_object(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<bool> {
    if a.as_raw_fd() == b.as_raw_fd() {
        return Ok(true);
    }
    let a = crate::stat::of(a)?;
    let b = crate::stat::of(b)?;
    Ok(a.st_dev == b.st_dev && a.st_ino == b.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_object_refuses_to_shrink_and_to_grow() {
        let fd = create_sealed("test", 8192).unwrap();
        assert!(ftruncate(&fd, 0).is_err());
        assert!(ftruncate(&fd, 16384).is_err());
        verify_sealed(fd.as_fd(), 8192).unwrap();
    }

    #[test]
    fn an_unsealed_object_is_refused() {
        let fd = create("test").unwrap();
        ftruncate(&fd, 4096).unwrap();
        assert!(matches!(verify_sealed(fd.as_fd(), 4096), Err(SealError::CanShrink)));
    }

    #[test]
    fn a_short_object_is_refused_with_both_sizes() {
        let fd = create_sealed("test", 4096).unwrap();
        let error = verify_sealed(fd.as_fd(), 8192).unwrap_err();
        assert_eq!(error.to_string(), "the memory object has 4096 bytes, 8192 were planned");
    }

    #[test]
    fn an_ordinary_file_is_not_sealable() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(matches!(verify_sealed(file.as_fd(), 1), Err(SealError::NotSealable)));
    }
}
