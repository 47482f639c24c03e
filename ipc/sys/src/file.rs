//! Positioned file I/O between a file and a shared mapping, and the sizes of files and devices.
//!
//! Only the block layer reads and writes here. Data goes between the file and the arena without
//! passing through private memory; `nowait` asks the kernel to answer `WouldBlock` instead of
//! sleeping (`RWF_NOWAIT`), so that the caller can hand the request to a worker thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::mapping::SharedMapping;

/// How one transfer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Answer `WouldBlock` rather than sleep.
    pub nowait: bool,
    /// On disk before the call returns (`RWF_DSYNC`), for forced unit access.
    pub durable: bool,
}

impl Transfer {
    fn flags(self) -> libc::c_int {
        let mut flags = 0;
        if self.nowait {
            flags |= libc::RWF_NOWAIT;
        }
        if self.durable {
            flags |= libc::RWF_DSYNC;
        }
        flags
    }
}

/// Reads up to `len` bytes of `file` at `position` into the mapping at `offset`; short at end of file.
pub fn read_at(
    file: impl AsFd,
    position: u64,
    to: &SharedMapping,
    offset: usize,
    len: usize,
    how: Transfer,
) -> io::Result<usize> {
    to.check(offset, len).map_err(io::Error::other)?;
    // SAFETY: the range was checked.
    let base = unsafe { to.as_ptr().add(offset) };
    let iov = libc::iovec { iov_base: base.cast(), iov_len: len };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `iov` names `len` bytes of a live mapping; the kernel writes only there.
    let done = unsafe { libc::preadv2(fd, &iov, 1, position as libc::off_t, how.flags()) };
    count(done)
}

/// Writes up to `len` bytes of the mapping at `offset` to `file` at `position`.
pub fn write_at(
    file: impl AsFd,
    position: u64,
    from: &SharedMapping,
    offset: usize,
    len: usize,
    how: Transfer,
) -> io::Result<usize> {
    from.check(offset, len).map_err(io::Error::other)?;
    // SAFETY: the range was checked.
    let base = unsafe { from.as_ptr().add(offset) };
    let iov = libc::iovec { iov_base: base.cast(), iov_len: len };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `iov` names `len` bytes of a live mapping; the kernel only reads them.
    let done = unsafe { libc::pwritev2(fd, &iov, 1, position as libc::off_t, how.flags()) };
    count(done)
}

/// Reads up to `to.len()` bytes of `file` at `position` into private memory; short at end of file.
pub fn read_bytes_at(
    file: impl AsFd,
    position: u64,
    to: &mut [u8],
    how: Transfer,
) -> io::Result<usize> {
    let iov = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `iov` names all of `to`, which is borrowed mutably meanwhile.
    let done = unsafe { libc::preadv2(fd, &iov, 1, position as libc::off_t, how.flags()) };
    count(done)
}

/// Writes up to `from.len()` bytes of private memory to `file` at `position`.
pub fn write_bytes_at(
    file: impl AsFd,
    position: u64,
    from: &[u8],
    how: Transfer,
) -> io::Result<usize> {
    let iov = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `iov` names all of `from`; the kernel only reads it.
    let done = unsafe { libc::pwritev2(fd, &iov, 1, position as libc::off_t, how.flags()) };
    count(done)
}

fn count(done: isize) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Writes up to `len` zero bytes to `file` at `position`; fewer if `len` is more than one call takes.
pub fn write_zeroes_at(file: impl AsFd, position: u64, len: usize) -> io::Result<usize> {
    let mut iov = [libc::iovec {
        iov_base: (&raw const ZEROES.0).cast_mut().cast(),
        iov_len: ZEROES.0.len(),
    }; ZERO_PIECES];
    let len = len.min(ZEROES.0.len() * ZERO_PIECES);
    let (whole, rest) = (len / ZEROES.0.len(), len % ZEROES.0.len());
    let pieces = match rest {
        0 => whole,
        _ => {
            iov[whole].iov_len = rest;
            whole + 1
        }
    };
    let fd = file.as_fd().as_raw_fd();
    let offset = position as libc::off_t;
    // SAFETY: each entry names at most as many bytes as the static has; the kernel only reads them.
    let done = unsafe { libc::pwritev2(fd, iov.as_ptr(), pieces as libc::c_int, offset, 0) };
    count(done)
}

/// Entries of a [`write_zeroes_at`]: a megabyte in all.
const ZERO_PIECES: usize = 16;

/// Aligned for O_DIRECT.
#[repr(align(4096))]
struct Zeroes([u8; 64 * 1024]);

static ZEROES: Zeroes = Zeroes([0; 64 * 1024]);

/// Deallocates a range of a file; it reads as zeroes afterwards and the size stays.
pub fn punch_hole(file: impl AsFd, position: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, position, len)
}

/// Makes a range of a file read as zeroes, allocated where the file system can.
pub fn zero_range(file: impl AsFd, position: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE, position, len)
}

/// Makes the host keep room for a range; the file becomes as long as that.
pub fn reserve(file: impl AsFd, position: u64, len: u64) -> io::Result<()> {
    fallocate(file, 0, position, len)
}

/// Makes a file that long.
pub fn set_size(file: impl AsFd, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    Ok(nix::unistd::ftruncate(file, len)?)
}

fn fallocate(file: impl AsFd, mode: i32, position: u64, len: u64) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: a plain system call on numbers.
    match unsafe { libc::fallocate(fd, mode, position as libc::off_t, len as libc::off_t) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until all data of the file is on stable storage.
pub fn sync_data(file: impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::fdatasync(file)?)
}

/// What is at a place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Bytes that take room.
    Data,
    /// Nothing: it reads as zeroes.
    Hole,
}

/// What is at `at`, and where that ends: at the end of the file at the latest, for a hole possibly beyond
/// it. An error: the file system cannot say. The file's own position is moved.
pub fn presence(file: impl AsFd, at: u64) -> io::Result<(Presence, u64)> {
    match seek(&file, at, libc::SEEK_DATA) {
        Ok(data) if data > at => Ok((Presence::Hole, data)),
        Ok(_) => Ok((Presence::Data, seek(&file, at, libc::SEEK_HOLE)?)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok((Presence::Hole, u64::MAX)),
        Err(error) => Err(error),
    }
}

fn seek(file: impl AsFd, at: u64, whence: libc::c_int) -> io::Result<u64> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: a plain system call on numbers.
    let found = unsafe { libc::lseek(fd, at as libc::off_t, whence) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

/// What kind of object an image descriptor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A block device.
    BlockDevice,
    /// Anything else, which no image may be.
    Other,
}

/// Kind of `file`.
pub fn kind(file: impl AsFd) -> io::Result<FileKind> {
    let stat = crate::stat::of(file)?;
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::Regular,
        libc::S_IFBLK => FileKind::BlockDevice,
        _ => FileKind::Other,
    })
}

/// Size of a regular file or block device in bytes.
pub fn size(file: impl AsFd) -> io::Result<u64> {
    match kind(&file)? {
        FileKind::BlockDevice => {
            let mut bytes = 0u64;
            // SAFETY: BLKGETSIZE64 writes one u64 to the pointer it is given.
            unsafe { block_size64(file.as_fd().as_raw_fd(), &mut bytes) }?;
            Ok(bytes)
        }
        _ => crate::memfd::size(file),
    }
}

/// Whether the file lives in memory (tmpfs), where I/O never waits for a device.
pub fn is_in_memory(file: impl AsFd) -> io::Result<bool> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

nix::ioctl_read!(
    /// `BLKGETSIZE64`: size of a block device in bytes.
    block_size64, 0x12, 114, u64
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Rights;
    use crate::memfd::create_sealed;

    #[test]
    fn bytes_go_from_mapping_to_file_and_back() {
        let file = create_sealed("image", 8192).unwrap();
        let arena = create_sealed("arena", 8192).unwrap();
        let map = SharedMapping::map(&arena, 8192, Rights::ReadWrite).unwrap();
        map.copy_out(0, b"stamp").unwrap();
        assert_eq!(write_at(&file, 4096, &map, 0, 5, Transfer::default()).unwrap(), 5);
        assert_eq!(read_at(&file, 4096, &map, 100, 5, Transfer::default()).unwrap(), 5);
        let mut back = [0; 5];
        map.copy_in(100, &mut back).unwrap();
        assert_eq!(&back, b"stamp");
        assert!(is_in_memory(&file).unwrap());
        assert_eq!(size(&file).unwrap(), 8192);
    }

    #[test]
    fn holes_and_data_are_told_apart() {
        let file = create_sealed("image", 3 << 20).unwrap();
        let map = SharedMapping::map(&file, 3 << 20, Rights::ReadWrite).unwrap();
        map.copy_out(1 << 20, &[1; 4096]).unwrap();
        let data = (1 << 20)..(1 << 20) + 4096;
        assert_eq!(presence(&file, 0).unwrap(), (Presence::Hole, data.start));
        assert_eq!(presence(&file, data.start + 1).unwrap(), (Presence::Data, data.end));
        assert_eq!(presence(&file, data.end).unwrap(), (Presence::Hole, u64::MAX));
    }

    #[test]
    fn zeroes_are_written_up_to_a_megabyte_a_call() {
        let file = create_sealed("image", 3 << 20).unwrap();
        let map = SharedMapping::map(&file, 3 << 20, Rights::ReadWrite).unwrap();
        for at in [0, 511, 512, 100_511, 100_512] {
            map.copy_out(at, b"x").unwrap();
        }
        assert_eq!(write_zeroes_at(&file, 512, 100_000).unwrap(), 100_000);
        let mut byte = [0];
        for (at, value) in [(511, b'x'), (512, 0), (100_511, 0), (100_512, b'x')] {
            map.copy_in(at, &mut byte).unwrap();
            assert_eq!(byte[0], value, "at {at}");
        }
        assert_eq!(write_zeroes_at(&file, 0, 3 << 20).unwrap(), 1 << 20);
    }

    #[test]
    fn a_range_outside_the_mapping_never_reaches_the_kernel() {
        let file = create_sealed("image", 4096).unwrap();
        let map = SharedMapping::map(&file, 4096, Rights::ReadWrite).unwrap();
        assert!(read_at(&file, 0, &map, 4000, 97, Transfer::default()).is_err());
    }
}
