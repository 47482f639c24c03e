//! Shared mappings that never yield a slice.
//!
//! The other side writes at the same time, so a `&[u8]` over shared memory would be unsound: bytes
//! are copied in and out, and counters are atomics. Callers: `ring`, `memory`, in-flight tables.
//!
//! Law: every offset is checked against the mapping's length before a pointer is made from it.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// What a mapping may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Loads only; a store faults.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
}

/// An access outside a mapping, or one that its rights or the alignment forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at offset {offset:#x} do not lie in a mapping of {size:#x} bytes")]
pub struct OutOfMapping {
    /// First byte asked for.
    pub offset: usize,
    /// Bytes asked for.
    pub len: usize,
    /// Bytes there are.
    pub size: usize,
}

/// A `MAP_SHARED` mapping of an object or a part of one, unmapped on drop. Never executable.
#[derive(Debug)]
pub struct SharedMapping {
    base: NonNull<u8>,
    len: usize,
    rights: Rights,
}

// SAFETY: the mapping is plain memory owned by this value; all access is by volatile copies and
// atomics, which tolerate concurrent use by threads as they tolerate the other process.
unsafe impl Send for SharedMapping {}
// SAFETY: as above; no method hands out a reference to non-atomic memory.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Maps `len` bytes of `fd` from its beginning.
    pub fn map(fd: impl AsFd, len: usize, rights: Rights) -> io::Result<Self> {
        Self::map_from(fd, 0, len, rights)
    }

    /// Maps `len` bytes of `fd` from `file_offset`, a multiple of the page size.
    pub fn map_from(
        fd: impl AsFd,
        file_offset: u64,
        len: usize,
        rights: Rights,
    ) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let start = i64::try_from(file_offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let prot = match rights {
            Rights::ReadOnly => ProtFlags::PROT_READ,
            Rights::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        // SAFETY: no address is requested, so no existing mapping is replaced.
        let base = unsafe { mmap(None, size, prot, MapFlags::MAP_SHARED, fd, start) }?;
        Ok(Self { base: base.cast(), len, rights })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A mapping is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it may be used for.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The first byte, for a crate that needs pointers of its own (`ring`, `memory`).
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Checks that `len` bytes at `offset` lie inside.
    pub fn check(&self, offset: usize, len: usize) -> Result<(), OutOfMapping> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(OutOfMapping { offset, len, size: self.len }),
        }
    }

    /// Copies bytes from the mapping into `to`.
    pub fn copy_in(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfMapping> {
        self.check(offset, to.len())?;
        // SAFETY: the range was checked, `base` is valid for `len` bytes.
        let from = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: `from` has `to.len()` bytes, `to` is private memory, so they do not overlap. A
        // concurrent writer can tear the copied bytes, which callers treat as untrusted anyway.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies `from` into the mapping.
    pub fn copy_out(&self, offset: usize, from: &[u8]) -> Result<(), OutOfMapping> {
        self.check_writable(offset, from.len())?;
        // SAFETY: the range was checked.
        let to = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: `to` has `from.len()` writable bytes; `from` is private memory.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Writes zeroes over a range.
    pub fn zero(&self, offset: usize, len: usize) -> Result<(), OutOfMapping> {
        self.check_writable(offset, len)?;
        // SAFETY: the range was checked.
        let to = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: `to` has `len` writable bytes.
        unsafe { std::ptr::write_bytes(to, 0, len) };
        Ok(())
    }

    fn check_writable(&self, offset: usize, len: usize) -> Result<(), OutOfMapping> {
        if self.rights == Rights::ReadOnly {
            return Err(OutOfMapping { offset, len, size: 0 });
        }
        self.check(offset, len)
    }

    fn aligned<T>(&self, offset: usize) -> Result<*mut T, OutOfMapping> {
        let len = size_of::<T>();
        self.check_writable(offset, len)?;
        if !offset.is_multiple_of(align_of::<T>()) {
            return Err(OutOfMapping { offset, len, size: self.len });
        }
        // SAFETY: the range was checked; mappings are page-aligned, so the result is aligned.
        Ok(unsafe { self.base.as_ptr().add(offset) }.cast())
    }

    /// The atomic byte at `offset`.
    pub fn atomic_u8(&self, offset: usize) -> Result<&AtomicU8, OutOfMapping> {
        // SAFETY: checked; the memory lives as long as `self` and is only used atomically.
        self.aligned(offset).map(|pointer| unsafe { AtomicU8::from_ptr(pointer) })
    }

    /// The atomic 16-bit word at `offset`, which must be aligned.
    pub fn atomic_u16(&self, offset: usize) -> Result<&AtomicU16, OutOfMapping> {
        // SAFETY: checked and aligned; the memory lives as long as `self`.
        self.aligned(offset).map(|pointer| unsafe { AtomicU16::from_ptr(pointer) })
    }

    /// The atomic 32-bit word at `offset`, which must be aligned.
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32, OutOfMapping> {
        // SAFETY: checked and aligned; the memory lives as long as `self`.
        self.aligned(offset).map(|pointer| unsafe { AtomicU32::from_ptr(pointer) })
    }

    /// The atomic 64-bit word at `offset`, which must be aligned.
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, OutOfMapping> {
        // SAFETY: checked and aligned; the memory lives as long as `self`.
        self.aligned(offset).map(|pointer| unsafe { AtomicU64::from_ptr(pointer) })
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `map`; nothing borrows it now.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memfd::create_sealed;

    fn mapping(rights: Rights) -> SharedMapping {
        SharedMapping::map(create_sealed("test", 4096).unwrap(), 4096, rights).unwrap()
    }

    #[test]
    fn bytes_written_are_read_back() {
        let mapping = mapping(Rights::ReadWrite);
        mapping.copy_out(4090, b"abcdef").unwrap();
        let mut back = [0; 6];
        mapping.copy_in(4090, &mut back).unwrap();
        assert_eq!(&back, b"abcdef");
    }

    #[test]
    fn ranges_past_the_end_and_overflowing_ranges_are_refused() {
        let mapping = mapping(Rights::ReadWrite);
        assert!(mapping.copy_out(4091, b"abcdef").is_err());
        assert!(mapping.copy_in(usize::MAX, &mut [0; 2]).is_err());
        assert!(mapping.atomic_u64(4092).is_err());
        assert!(mapping.atomic_u32(2).is_err());
    }

    #[test]
    fn a_read_only_mapping_refuses_stores() {
        let mapping = mapping(Rights::ReadOnly);
        assert!(mapping.copy_out(0, b"a").is_err());
        assert!(mapping.copy_in(0, &mut [0]).is_ok());
    }
}
