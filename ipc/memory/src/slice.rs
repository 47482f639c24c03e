//! A checked piece of guest memory: the proof that an allegation was true.
//!
//! Law: bytes are copied in (from the guest) and out (to the guest) and words are loaded and stored
//! atomically; no reference into guest memory ever leaves.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;

use bulkhead_sys::mapping::{OutOfMapping, SharedMapping};
use vm_memory::{AtomicAccess, ByteValued, Bytes, VolatileSlice};

use crate::Rights;
use crate::written::Log;

/// An access that a checked piece of guest memory does not allow. Where the operands came from the
/// guest, the guest is to blame; otherwise it is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Beyond the end of the piece.
    #[error(
        "{len:#x} bytes at offset {offset:#x} exceed {size:#x} bytes at guest address {addr:#x}"
    )]
    OutOfSlice {
        /// Guest address of the piece.
        addr: u64,
        /// Its length in bytes.
        size: usize,
        /// First byte asked for.
        offset: usize,
        /// Bytes asked for.
        len: usize,
    },
    /// A store into memory that was granted for loads only.
    #[error("guest address {addr:#x} was granted read-only")]
    ReadOnly {
        /// Guest address of the store.
        addr: u64,
    },
    /// An atomic access to an address that is not a multiple of its size.
    #[error("guest address {addr:#x} is not a multiple of {align}")]
    Misaligned {
        /// Guest address of the access.
        addr: u64,
        /// What it must be a multiple of.
        align: usize,
    },
    /// The far end of a bulk copy is outside its mapping.
    #[error(transparent)]
    OutOfMapping(#[from] OutOfMapping),
}

/// Checked guest memory, borrowed from the [`GuestMemory`](crate::GuestMemory) that checked it.
#[derive(Debug, Clone, Copy)]
pub struct GuestSlice<'m> {
    slice: VolatileSlice<'m>,
    addr: u64,
    rights: Rights,
    log: &'m Log,
}

impl<'m> GuestSlice<'m> {
    pub(crate) fn new(slice: VolatileSlice<'m>, addr: u64, rights: Rights, log: &'m Log) -> Self {
        Self { slice, addr, rights, log }
    }

    /// Guest-physical address of the first byte.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of `len` bytes at `offset`.
    #[inline]
    pub fn subslice(&self, offset: usize, len: usize) -> Result<GuestSlice<'m>, AccessError> {
        let outside = AccessError::OutOfSlice { addr: self.addr, size: self.len(), offset, len };
        let slice = self.slice.subslice(offset, len).map_err(|_| outside)?;
        Ok(Self { slice, addr: self.addr + offset as u64, ..*self })
    }

    /// Copies the first `to.len()` bytes from the guest.
    #[inline]
    pub fn copy_in(&self, to: &mut [u8]) -> Result<(), AccessError> {
        self.subslice(0, to.len())?.slice.copy_to(to);
        Ok(())
    }

    /// Copies `from` to the guest, to the first `from.len()` bytes.
    #[inline]
    pub fn copy_out(&self, from: &[u8]) -> Result<(), AccessError> {
        self.subslice(0, from.len())?.writable()?.copy_from(from);
        self.log.note(self.addr, from.len());
        Ok(())
    }

    /// Reads a plain value at `offset`, which need not be aligned. Not atomic: it may be torn.
    #[inline]
    pub fn read_obj<T: ByteValued>(&self, offset: usize) -> Result<T, AccessError> {
        let mut value = T::zeroed();
        self.subslice(offset, size_of::<T>())?.copy_in(value.as_mut_slice())?;
        Ok(value)
    }

    /// Writes a plain value at `offset`, which need not be aligned. Not atomic.
    #[inline]
    pub fn write_obj<T: ByteValued>(&self, offset: usize, value: T) -> Result<(), AccessError> {
        self.subslice(offset, size_of::<T>())?.copy_out(value.as_slice())
    }

    /// Loads the 16-bit word at `offset` (in the host's byte order) in one access.
    #[inline]
    pub fn load_u16(&self, offset: usize, order: Ordering) -> Result<u16, AccessError> {
        self.load(offset, order)
    }

    /// Loads the 32-bit word at `offset` in one access.
    #[inline]
    pub fn load_u32(&self, offset: usize, order: Ordering) -> Result<u32, AccessError> {
        self.load(offset, order)
    }

    /// Stores the 16-bit word at `offset` in one access.
    #[inline]
    pub fn store_u16(&self, offset: usize, value: u16, order: Ordering) -> Result<(), AccessError> {
        self.store(offset, value, order)
    }

    /// Stores the 32-bit word at `offset` in one access.
    #[inline]
    pub fn store_u32(&self, offset: usize, value: u32, order: Ordering) -> Result<(), AccessError> {
        self.store(offset, value, order)
    }

    #[inline]
    fn load<T: AtomicAccess>(&self, offset: usize, order: Ordering) -> Result<T, AccessError> {
        let word = self.subslice(offset, size_of::<T>())?;
        word.slice.load(0, order).map_err(|_| word.misaligned(size_of::<T>()))
    }

    #[inline]
    fn store<T: AtomicAccess>(
        &self,
        offset: usize,
        value: T,
        order: Ordering,
    ) -> Result<(), AccessError> {
        let word = self.subslice(offset, size_of::<T>())?;
        let stored = word.writable()?.store(value, 0, order);
        stored.map_err(|_| word.misaligned(size_of::<T>()))?;
        self.log.note(word.addr, size_of::<T>());
        Ok(())
    }

    /// Reads bytes of `file` at `position` straight into the piece, as many as one `pread` gives: less
    /// than asked for only at the end of the file.
    pub fn fill_from(&self, file: impl AsFd, position: u64) -> io::Result<usize> {
        let guard = self.writable().map_err(io::Error::other)?.ptr_guard_mut();
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the slice has `len` bytes of a live, writable mapping; the kernel writes only there.
        let done =
            unsafe { libc::pread(fd, guard.as_ptr().cast(), self.len(), position as libc::off_t) };
        let done = usize::try_from(done).map_err(|_| io::Error::last_os_error())?;
        self.log.note(self.addr, done);
        Ok(done)
    }

    /// Writes zeroes over the whole piece.
    pub fn zero(&self) -> Result<(), AccessError> {
        let guard = self.writable()?.ptr_guard_mut();
        // SAFETY: the slice was checked to have `len` bytes of a live mapping, which is writable.
        unsafe { std::ptr::write_bytes(guard.as_ptr(), 0, self.len()) };
        self.log.note(self.addr, self.len());
        Ok(())
    }

    /// Copies the whole piece from the guest to `offset` of another mapping (an arena), directly.
    #[inline]
    pub fn copy_to_mapping(&self, to: &SharedMapping, offset: usize) -> Result<(), AccessError> {
        if to.rights() == Rights::ReadOnly {
            return Err(OutOfMapping { offset, len: self.len(), size: 0 }.into());
        }
        let to = volatile_in(to, offset, self.len())?;
        self.slice.copy_to_volatile_slice(to);
        Ok(())
    }

    /// Fills the whole piece from `offset` of another mapping (an arena), directly.
    #[inline]
    pub fn copy_from_mapping(
        &self,
        from: &SharedMapping,
        offset: usize,
    ) -> Result<(), AccessError> {
        let to = self.writable()?;
        volatile_in(from, offset, self.len())?.copy_to_volatile_slice(to);
        self.log.note(self.addr, self.len());
        Ok(())
    }

    fn writable(&self) -> Result<VolatileSlice<'m>, AccessError> {
        match self.rights {
            Rights::ReadWrite => Ok(self.slice),
            Rights::ReadOnly => Err(AccessError::ReadOnly { addr: self.addr }),
        }
    }

    fn misaligned(&self, align: usize) -> AccessError {
        AccessError::Misaligned { addr: self.addr, align }
    }
}

/// `len` bytes of a mapping that is not guest memory. Two mappings never share an address, so a copy
/// between them never overlaps (that they may name the same object costs the peer its data only).
#[inline]
fn volatile_in(
    mapping: &SharedMapping,
    offset: usize,
    len: usize,
) -> Result<VolatileSlice<'_>, OutOfMapping> {
    mapping.check(offset, len)?;
    let pointer = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: the range was checked against the mapping, which lives as long as the slice's lifetime
    // and into which nobody makes references.
    Ok(unsafe { VolatileSlice::new(pointer, len) })
}
