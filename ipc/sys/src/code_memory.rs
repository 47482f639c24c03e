//! Memory for code that is made at run time: mapped twice, once to be written, once to be executed.
//!
//! Called by the software CPU before its process is sealed; afterwards nothing can be mapped executable,
//! and neither mapping can become the other.
//!
//! Why not a memfd: a process that may write no file cannot size one (RLIMIT_FSIZE counts it). Shared
//! anonymous memory can be mapped a second time by `mremap` with an old size of 0 (mremap(2), NOTES).
//!
//! Law: no reference to the memory is ever made; it is written by copies.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MRemapFlags, MapFlags, ProtFlags, mmap_anonymous, mprotect, mremap, munmap};

/// The memory, unmapped on drop.
#[derive(Debug)]
pub struct CodeMemory {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    len: usize,
}

// SAFETY: the mappings are owned by this value; writing takes it exclusively.
unsafe impl Send for CodeMemory {}

impl CodeMemory {
    /// Makes `len` bytes of it, a multiple of the page size.
    pub fn new(len: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: no address is requested, so no existing mapping is replaced.
        let write = unsafe { mmap_anonymous(None, size, rights, MapFlags::MAP_SHARED) }?;
        // SAFETY: the mapping was just made; an old size of 0 leaves it as it is and makes another one.
        let execute = unsafe { mremap(write, 0, len, MRemapFlags::MREMAP_MAYMOVE, None) }?;
        // SAFETY: the second mapping, of this length, is nobody else's.
        unsafe { mprotect(execute, len, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC) }?;
        Ok(Self { write: write.cast(), execute: execute.cast(), len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// It is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where it is executed.
    pub fn execute_address(&self) -> *const u8 {
        self.execute.as_ptr()
    }

    /// Copies bytes to a place. What does not fit is a mistake of the caller's and is left out.
    pub fn write(&mut self, place: usize, bytes: &[u8]) {
        if place.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return;
        }
        // SAFETY: the place and what follows it lie within the mapping.
        let to = unsafe { self.write.as_ptr().add(place) };
        // SAFETY: as above; nobody has a reference to the mapping.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        for place in [self.write, self.execute] {
            // SAFETY: both mappings have this length and are nobody else's.
            let unmapped = unsafe { munmap(place.cast(), self.len) };
            debug_assert!(unmapped.is_ok(), "a mapping of ours cannot be unmapped");
        }
    }
}
