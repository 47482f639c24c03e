//! What a block device, or a file opened past the page cache, demands of its requests; and discard.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sizes a block device reports, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Smallest request.
    pub logical: u32,
    /// Smallest request that needs no read-modify-write.
    pub physical: u32,
    /// Preferred request; 0: none.
    pub optimal: u32,
}

/// Block sizes of a block device.
pub fn sizes(device: impl AsFd) -> io::Result<BlockSizes> {
    let fd = device.as_fd().as_raw_fd();
    let (mut logical, mut physical, mut optimal) = (0, 0, 0);
    // SAFETY: BLKSSZGET writes one int to the pointer it is given.
    unsafe { logical_size(fd, &mut logical) }?;
    // SAFETY: BLKPBSZGET writes one unsigned int.
    unsafe { physical_size(fd, &mut physical) }?;
    // SAFETY: BLKIOOPT writes one unsigned int.
    unsafe { optimal_size(fd, &mut optimal) }?;
    Ok(BlockSizes { logical: u32::try_from(logical).unwrap_or(512), physical, optimal })
}

/// Tells a block device that a range is no longer needed. What it reads as afterwards is undefined.
pub fn discard(device: impl AsFd, position: u64, len: u64) -> io::Result<()> {
    let range = [position, len];
    // SAFETY: BLKDISCARD reads two u64 from the pointer it is given.
    unsafe { discard_range(device.as_fd().as_raw_fd(), &range) }?;
    Ok(())
}

/// Alignment in bytes that O_DIRECT demands of offsets and lengths in this file, where the kernel
/// says it (6.1 and later); 0: this file can't do it; `None`: the kernel does not say.
pub fn direct_alignment(file: impl AsFd) -> io::Result<Option<u32>> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let fd = file.as_fd().as_raw_fd();
    let empty = c"".as_ptr();
    // SAFETY: the path is empty (AT_EMPTY_PATH), and `stat` has room for what the kernel writes.
    let result = unsafe {
        libc::statx(fd, empty, libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, stat.as_mut_ptr())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed memory is a value of the type, and the kernel wrote the rest.
    let stat = unsafe { stat.assume_init() };
    let said = stat.stx_mask & libc::STATX_DIOALIGN != 0;
    Ok(said.then_some(stat.stx_dio_offset_align))
}

nix::ioctl_read_bad!(
    /// `BLKSSZGET`: logical block size.
    logical_size, nix::request_code_none!(0x12, 104), libc::c_int
);
nix::ioctl_read_bad!(
    /// `BLKPBSZGET`: physical block size.
    physical_size, nix::request_code_none!(0x12, 123), libc::c_uint
);
nix::ioctl_read_bad!(
    /// `BLKIOOPT`: preferred size of a request.
    optimal_size, nix::request_code_none!(0x12, 121), libc::c_uint
);
nix::ioctl_write_ptr_bad!(
    /// `BLKDISCARD`: a range is no longer needed.
    discard_range, nix::request_code_none!(0x12, 119), [u64; 2]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_block_device() {
        let file = crate::memfd::create_sealed("image", 4096).unwrap();
        assert!(sizes(&file).is_err());
        assert!(discard(&file, 0, 4096).is_err());
    }

    #[test]
    fn alignment_is_a_power_of_two_or_unknown() {
        let exe = std::fs::File::open("/proc/self/exe").unwrap();
        let alignment = direct_alignment(&exe).unwrap();
        assert!(alignment.is_none_or(|bytes| bytes == 0 || bytes.is_power_of_two()));
    }
}
