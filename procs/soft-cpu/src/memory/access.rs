//! Loads and stores of handlers: the fast path, inlined into each of them.
//!
//! `read`, `write` and `modify` work on an operation's memory operand; `load` and `store` on a linear
//! address that the handler made itself (stack, strings). All may fault, and a handler changes nothing
//! that the guest sees before its last one succeeded.

use super::host;
use super::ram::PAGE;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::op::At;
use crate::width::Width;

/// Whether a non-canonical address is #GP or #SS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Any segment but SS.
    Data,
    /// SS.
    Stack,
    /// The processor's own access to its tables: at level 0 whatever the current level.
    System,
}

impl Through {
    #[inline(always)]
    pub(super) fn of(at: At) -> Self {
        if at.shape.is_stack() { Self::Stack } else { Self::Data }
    }
}

impl Cpu {
    /// Offset of the memory operand within its segment, before truncation to the address size: what
    /// `lea` computes.
    #[inline(always)]
    pub fn offset(&self, at: At) -> u64 {
        let base: u64 = self.regs.get(at.base);
        let index: u64 = self.regs.get(at.index);
        base.wrapping_add(index << at.shape.scale()).wrapping_add(at.displacement)
    }

    /// Linear address of the memory operand, whether or not its segment permits it.
    pub fn unchecked_address(&self, at: At) -> u64 {
        let segment = &self.segments[usize::from(at.shape.segment() % 6)];
        segment.base.wrapping_add(at.shape.size().cut(self.offset(at)))
    }

    /// Linear address of the memory operand, for an access of `size` bytes: segment limits and rights
    /// are checked where the mode has them.
    #[inline(always)]
    pub fn address(&mut self, at: At, size: u32, write: bool) -> Result<u64, Raised> {
        let offset = self.offset(at);
        if at.shape.is_flat() {
            let base: u64 = self.regs.get(crate::state::Reg::base_of(at.shape.segment()));
            return Ok(base.wrapping_add(offset));
        }
        self.segmented_address(at, offset, size, write)
    }

    /// Linear address of a memory operand that needs no checks of segments.
    #[inline(always)]
    fn flat_address(&self, at: At) -> u64 {
        let base: u64 = self.regs.get(crate::state::Reg::base_of(at.shape.segment()));
        base.wrapping_add(self.offset(at))
    }

    /// Reads the memory operand.
    #[inline(always)]
    pub fn read<W: Width>(&mut self, at: At) -> Result<W, Raised> {
        if at.shape.is_flat()
            && let Some(place) = self.hit_read(self.flat_address(at), W::BYTES as u64)
        {
            // SAFETY: a read tag is installed only for guest RAM, and the access does not cross its page.
            return Ok(unsafe { host::load(place) });
        }
        self.read_elsewhere(at)
    }

    #[cold]
    #[inline(never)]
    fn read_elsewhere<W: Width>(&mut self, at: At) -> Result<W, Raised> {
        let linear = self.address(at, W::BYTES as u32, false)?;
        self.load(linear, Through::of(at))
    }

    /// Writes the memory operand.
    #[inline(always)]
    pub fn write<W: Width>(&mut self, at: At, value: W) -> Result<(), Raised> {
        if at.shape.is_flat()
            && let Some(place) = self.hit_write(self.flat_address(at), W::BYTES as u64)
        {
            // SAFETY: a write tag is installed only for guest RAM, and the access does not cross its page.
            unsafe { host::store(place, value) };
            return Ok(());
        }
        self.write_elsewhere(at, value)
    }

    #[cold]
    #[inline(never)]
    fn write_elsewhere<W: Width>(&mut self, at: At, value: W) -> Result<(), Raised> {
        let linear = self.address(at, W::BYTES as u32, true)?;
        self.store(linear, value, Through::of(at))
    }

    /// Reads the memory operand, passes it through `change` and writes it back. `change` runs when
    /// nothing can fault any more; it may set flags and registers. Not atomic.
    #[inline(always)]
    pub fn modify<W: Width>(
        &mut self,
        at: At,
        change: impl FnOnce(&mut Self, W) -> W,
    ) -> Result<(), Raised> {
        if at.shape.is_flat()
            && let Some(place) = self.hit_write(self.flat_address(at), W::BYTES as u64)
        {
            // SAFETY: a write tag is installed only for guest RAM, and the access does not cross its page.
            let old = unsafe { host::load(place) };
            let new = change(self, old);
            // SAFETY: as above.
            unsafe { host::store(place, new) };
            return Ok(());
        }
        self.modify_elsewhere(at, change)
    }

    #[cold]
    #[inline(never)]
    fn modify_elsewhere<W: Width>(
        &mut self,
        at: At,
        change: impl FnOnce(&mut Self, W) -> W,
    ) -> Result<(), Raised> {
        let linear = self.address(at, W::BYTES as u32, true)?;
        self.modify_slow(linear, Through::of(at), change)
    }

    /// The host address of the memory operand, if it is `size` bytes of RAM within one page, proved
    /// writable. `None`: it crosses pages or is no RAM.
    #[inline(always)]
    pub fn writable(&mut self, at: At, size: u32) -> Result<Option<*mut u8>, Raised> {
        let linear = self.address(at, size, true)?;
        self.writable_at(linear, size, Through::of(at))
    }

    #[inline(always)]
    pub(super) fn writable_at(
        &mut self,
        linear: u64,
        size: u32,
        through: Through,
    ) -> Result<Option<*mut u8>, Raised> {
        match self.hit_write(linear, size.into()) {
            Some(place) => Ok(Some(place)),
            None => self.writable_slow(linear, size.into(), through),
        }
    }

    /// Reads from a linear address.
    #[inline(always)]
    pub fn load<W: Width>(&mut self, linear: u64, through: Through) -> Result<W, Raised> {
        if through != Through::System
            && let Some(place) = self.hit_read(linear, W::BYTES as u64)
        {
            // SAFETY: a read tag is installed only for guest RAM, and the access does not cross its page.
            return Ok(unsafe { host::load(place) });
        }
        self.load_slow(linear, W::BYTES, through).map(W::truncate)
    }

    /// Writes to a linear address.
    #[inline(always)]
    pub fn store<W: Width>(
        &mut self,
        linear: u64,
        value: W,
        through: Through,
    ) -> Result<(), Raised> {
        if through != Through::System
            && let Some(place) = self.hit_write(linear, W::BYTES as u64)
        {
            // SAFETY: a write tag is installed only for guest RAM, and the access does not cross its page.
            unsafe { host::store(place, value) };
            return Ok(());
        }
        self.store_slow(linear, W::BYTES, value.zero_extend(), through)
    }

    /// Reads any number of bytes. All of them are readable, or none was read.
    #[inline]
    pub fn load_bytes(
        &mut self,
        linear: u64,
        into: &mut [u8],
        through: Through,
    ) -> Result<(), Raised> {
        if through != Through::System
            && !into.is_empty()
            && let Some(place) = self.hit_read(linear, into.len() as u64)
        {
            // SAFETY: a read tag is installed only for guest RAM, and the access does not cross its page.
            unsafe { host::copy_in(place, into) };
            return Ok(());
        }
        self.load_bytes_slow(linear, into, through)
    }

    /// Writes any number of bytes: all of them, or none.
    #[inline]
    pub fn store_bytes(
        &mut self,
        linear: u64,
        from: &[u8],
        through: Through,
    ) -> Result<(), Raised> {
        if through != Through::System
            && !from.is_empty()
            && let Some(place) = self.hit_write(linear, from.len() as u64)
        {
            // SAFETY: a write tag is installed only for guest RAM, and the access does not cross its page.
            unsafe { host::copy_out(place, from) };
            return Ok(());
        }
        self.store_bytes_slow(linear, from, through)
    }

    /// Reads 16 bytes of the memory operand.
    #[inline(always)]
    pub fn read_u128(&mut self, at: At) -> Result<u128, Raised> {
        if at.shape.is_flat()
            && let Some(place) = self.hit_read(self.flat_address(at), 16)
        {
            // SAFETY: a read tag is installed only for guest RAM, and the access does not cross its page.
            let low: u64 = unsafe { host::load(place) };
            // SAFETY: as above.
            let high: u64 = unsafe { host::load(place.wrapping_add(8)) };
            return Ok(u128::from(low) | u128::from(high) << 64);
        }
        self.read_u128_elsewhere(at)
    }

    #[cold]
    #[inline(never)]
    fn read_u128_elsewhere(&mut self, at: At) -> Result<u128, Raised> {
        let linear = self.address(at, 16, false)?;
        let mut bytes = [0; 16];
        self.load_bytes(linear, &mut bytes, Through::of(at))?;
        Ok(u128::from_le_bytes(bytes))
    }

    /// Writes 16 bytes to the memory operand.
    #[inline(always)]
    pub fn write_u128(&mut self, at: At, value: u128) -> Result<(), Raised> {
        if at.shape.is_flat()
            && let Some(place) = self.hit_write(self.flat_address(at), 16)
        {
            // SAFETY: a write tag is installed only for guest RAM, and the access does not cross its page.
            unsafe { host::store(place, value as u64) };
            // SAFETY: as above.
            unsafe { host::store(place.wrapping_add(8), (value >> 64) as u64) };
            return Ok(());
        }
        self.write_u128_elsewhere(at, value)
    }

    #[cold]
    #[inline(never)]
    fn write_u128_elsewhere(&mut self, at: At, value: u128) -> Result<(), Raised> {
        let linear = self.address(at, 16, true)?;
        self.store_bytes(linear, &value.to_le_bytes(), Through::of(at))
    }

    /// The host address of a readable page's byte and how many bytes follow it in the page: for string
    /// instructions, after a successful `load` there. `None`: take them one by one.
    #[inline]
    pub fn readable_span(&self, linear: u64) -> Option<(*const u8, usize)> {
        let place = self.hit_read(linear, 1)?;
        Some((place, (PAGE - linear % PAGE) as usize))
    }

    /// As [`readable_span`](Self::readable_span), for writing.
    #[inline]
    pub fn writable_span(&self, linear: u64) -> Option<(*mut u8, usize)> {
        let place = self.hit_write(linear, 1)?;
        Some((place, (PAGE - linear % PAGE) as usize))
    }

    #[inline(always)]
    fn hit_read(&self, linear: u64, size: u64) -> Option<*const u8> {
        let entry = self.tlb.entry(linear);
        let last = linear.wrapping_add(size - 1);
        (entry.read == last & !(PAGE - 1)).then(|| entry.addend.wrapping_add(linear) as *const u8)
    }

    #[inline(always)]
    fn hit_write(&self, linear: u64, size: u64) -> Option<*mut u8> {
        let entry = self.tlb.entry(linear);
        let last = linear.wrapping_add(size - 1);
        (entry.write == last & !(PAGE - 1)).then(|| entry.addend.wrapping_add(linear) as *mut u8)
    }
}
