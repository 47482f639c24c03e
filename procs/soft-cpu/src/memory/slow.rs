//! What happens when the TLB has no answer: checks, walks, fills, pages that are special.

use bulkhead_hypervisor::IoAddress;

use super::access::Through;
use super::host;
use super::order::Order;
use super::outside::Outside;
use super::ram::PAGE;
use super::tlb::{Bank, Entry, NEVER};
use super::walk::{Access, Translation};
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, Stop, vector};
use crate::op::At;
use crate::state::{SegmentName, cr4, rflags};
use crate::width::Width;

/// A piece of an access that lies within one page.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Guest RAM.
    Ram(*mut u8),
    /// Guest RAM in a page with a used ring, and its guest-physical address.
    Watched(*mut u8, u64),
    /// No RAM, at this guest-physical address.
    Outside(u64),
}

impl Cpu {
    /// The address where segments have limits, or are 32 bits wide in 64-bit mode.
    #[cold]
    #[inline(never)]
    pub(super) fn segmented_address(
        &mut self,
        at: At,
        offset: u64,
        size: u32,
        write: bool,
    ) -> Result<u64, Raised> {
        self.segment_address(at.shape.segment(), at.shape.size().cut(offset), size, write)
    }

    /// Linear address of `offset` in a segment, after its limit and rights were checked (outside 64-bit
    /// mode).
    pub fn segment_address(
        &mut self,
        number: u8,
        offset: u64,
        size: u32,
        write: bool,
    ) -> Result<u64, Raised> {
        if self.mode.is_long() {
            let base: u64 = self.regs.get(crate::state::Reg::base_of(number));
            return Ok(base.wrapping_add(offset));
        }
        let segment = &self.segments[usize::from(number % 6)];
        if !segment.permits(offset as u32, size, write) {
            let is_stack = number == SegmentName::Ss as u8;
            let vector = if is_stack { vector::SS } else { vector::GP };
            return Err(self.fault(Exception::with_code(vector, 0)));
        }
        Ok(segment.base.wrapping_add(offset) & 0xffff_ffff)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn load_slow(
        &mut self,
        linear: u64,
        size: usize,
        through: Through,
    ) -> Result<u64, Raised> {
        let mut bytes = [0; 8];
        self.load_bytes_slow(linear, &mut bytes[..size], through)?;
        Ok(u64::from_le_bytes(bytes))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn store_slow(
        &mut self,
        linear: u64,
        size: usize,
        value: u64,
        through: Through,
    ) -> Result<(), Raised> {
        self.store_bytes_slow(linear, &value.to_le_bytes()[..size], through)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn modify_slow<W: Width>(
        &mut self,
        linear: u64,
        through: Through,
        change: impl FnOnce(&mut Self, W) -> W,
    ) -> Result<(), Raised> {
        // All checks of a write first: a page that may be read but not written faults as a write.
        self.probe_write(linear, W::BYTES, through)?;
        let old = W::truncate(self.load_slow(linear, W::BYTES, through)?);
        // The store may still need the outside, and then everything starts again.
        let before = (self.regs.clone(), self.flags);
        let new = change(self, old);
        let stored = self.store_slow(linear, W::BYTES, new.zero_extend(), through);
        if stored.is_err() {
            (self.regs, self.flags) = before;
        }
        stored
    }

    #[cold]
    #[inline(never)]
    pub(super) fn writable_slow(
        &mut self,
        linear: u64,
        size: u64,
        through: Through,
    ) -> Result<Option<*mut u8>, Raised> {
        self.prove(linear, size as usize, true, through)?;
        if linear % PAGE + size > PAGE {
            return Ok(None);
        }
        match self.place(linear, size as usize, true, through)? {
            Place::Ram(host) => Ok(Some(host)),
            Place::Watched(host, physical) => {
                self.heed_devices(physical)?;
                Ok(Some(host))
            }
            Place::Outside(_) => Ok(None),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn load_bytes_slow(
        &mut self,
        linear: u64,
        into: &mut [u8],
        through: Through,
    ) -> Result<(), Raised> {
        self.prove(linear, into.len(), false, through)?;
        let mut at = linear;
        let mut rest = into;
        while !rest.is_empty() {
            let count = rest.len().min((PAGE - at % PAGE) as usize);
            let (piece, others) = rest.split_at_mut(count);
            match self.place(at, count, false, through)? {
                // SAFETY: `place` proved the piece to be guest RAM.
                Place::Ram(host) => unsafe { host::copy_in(host, piece) },
                Place::Watched(host, physical) => {
                    // SAFETY: as above.
                    unsafe { host::copy_in(host, piece) };
                    self.heed_devices(physical)?;
                }
                Place::Outside(physical) => self.load_outside(physical, piece)?,
            }
            rest = others;
            at = self.wrap(at.wrapping_add(count as u64));
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    pub(super) fn store_bytes_slow(
        &mut self,
        linear: u64,
        from: &[u8],
        through: Through,
    ) -> Result<(), Raised> {
        self.prove(linear, from.len(), true, through)?;
        let count = from.len().min((PAGE - linear % PAGE) as usize);
        let (first, second) = from.split_at(count);
        let place = self.place(linear, count, true, through)?;
        if second.is_empty() {
            return self.store_piece(place, first);
        }
        let beyond = self.wrap(linear.wrapping_add(count as u64));
        let next = self.place(beyond, second.len(), true, through)?;
        // What may leave the processor comes first: the instruction is then started again, and has to
        // find RAM as it was.
        match place {
            Place::Ram(_) | Place::Watched(..) => {
                self.store_piece(next, second)?;
                self.store_piece(place, first)
            }
            Place::Outside(_) => {
                self.store_piece(place, first)?;
                self.store_piece(next, second)
            }
        }
    }

    fn store_piece(&mut self, place: Place, from: &[u8]) -> Result<(), Raised> {
        match place {
            // SAFETY: `place` proved the piece to be guest RAM that may be written.
            Place::Ram(host) | Place::Watched(host, _) => unsafe { host::copy_out(host, from) },
            Place::Outside(physical) => self.store_outside(physical, from)?,
        }
        Ok(())
    }

    /// Outside 64-bit mode, linear addresses have 32 bits.
    fn wrap(&self, linear: u64) -> u64 {
        if self.mode.is_long() { linear } else { linear & 0xffff_ffff }
    }

    /// All checks of a write that may never come.
    pub(crate) fn probe_write(
        &mut self,
        linear: u64,
        size: usize,
        through: Through,
    ) -> Result<(), Raised> {
        self.prove(linear, size, true, through)?;
        if linear % PAGE + size as u64 <= PAGE {
            self.place(linear, size, true, through)?;
        }
        Ok(())
    }

    /// All checks of an access, for every page that it touches; afterwards it can only need the outside.
    fn prove(
        &mut self,
        linear: u64,
        size: usize,
        write: bool,
        through: Through,
    ) -> Result<(), Raised> {
        let last = linear.wrapping_add(size.max(1) as u64 - 1);
        if self.mode.is_long() && !(is_canonical(linear) && is_canonical(last)) {
            let vector = if through == Through::Stack { vector::SS } else { vector::GP };
            return Err(self.fault(Exception::with_code(vector, 0)));
        }
        if self.checks_alignment && through != Through::System && self.cpl == 3 {
            let natural = size.next_power_of_two().min(8) as u64;
            if size <= 8 && !linear.is_multiple_of(natural) {
                return Err(self.fault(Exception::with_code(vector::AC, 0)));
            }
        }
        if Self::page_of(linear) != Self::page_of(last) {
            self.place(linear, (PAGE - linear % PAGE) as usize, write, through)?;
            let second = self.wrap(Self::page_of(last));
            self.place(second, (last % PAGE) as usize + 1, write, through)?;
        }
        Ok(())
    }

    /// Translates a piece that lies within one page, and remembers the translation.
    fn place(
        &mut self,
        linear: u64,
        size: usize,
        write: bool,
        through: Through,
    ) -> Result<Place, Raised> {
        self.slow_calls += 1;
        let (access, bank) = self.access(write, through);
        let translation = match self.translate(linear, access) {
            Ok(translation) => translation,
            Err(fault) => return Err(self.fault(fault)),
        };
        self.watch_data(linear, size, write);
        let physical = translation.physical;
        if self.is_local_apic(physical) {
            return Ok(Place::Outside(physical));
        }
        let page = Self::page_of(physical);
        let Some(host_page) = self.ram.host(page, PAGE) else {
            return Ok(Place::Outside(physical));
        };
        let is_code = self.ram.is_code_page(physical);
        if write && is_code {
            self.write_to_code(physical, size)?;
        }
        if write {
            self.ram.note_written(physical);
        }
        let host = host_page.wrapping_add((physical % PAGE) as usize);
        if self.ram.devices().is_watched(physical) {
            return Ok(Place::Watched(host, physical));
        }
        let tag = Self::page_of(linear);
        let number = self.ram.page_number(physical);
        let may_write = translation.write
            && !is_code
            && number.is_some_and(|page| self.ram.dirty().permits(page));
        let entry = Entry {
            read: tag,
            write: if may_write { tag } else { NEVER },
            execute: NEVER,
            addend: (host_page as u64).wrapping_sub(tag),
        };
        if let Some(page) = number.filter(|_| may_write) {
            self.tlb.note_writable(page);
        }
        self.tlb.fill(bank, linear, entry, &translation);
        Ok(Place::Ram(host))
    }

    /// Remembers a translation for execution; the host address. Nothing is executed from where no RAM is.
    pub(crate) fn install_execute(
        &mut self,
        linear: u64,
        translation: Translation,
    ) -> Result<*const u8, Raised> {
        let physical = translation.physical;
        let Some(host_page) = self.ram.host(Self::page_of(physical), PAGE) else {
            return Err(self.fault(Exception::UD));
        };
        let tag = Self::page_of(linear);
        let addend = (host_page as u64).wrapping_sub(tag);
        self.tlb.fill_code(linear, self.mode.is_user(), addend, &translation);
        Ok(host_page.wrapping_add((physical % PAGE) as usize))
    }

    /// What kind of access it is, and which bank serves such accesses.
    fn access(&self, write: bool, through: Through) -> (Access, Bank) {
        let user = self.cpl == 3 && through != Through::System;
        let lifted = self.system_flags & rflags::AC != 0 && through != Through::System;
        let smap = !user && self.control.cr4 & cr4::SMAP != 0 && !lifted;
        let bank = match (self.is_strict, user, lifted) {
            (true, ..) => Bank::Strict,
            (_, true, _) => Bank::User,
            (_, false, true) => Bank::SupervisorAc,
            (_, false, false) => Bank::Supervisor,
        };
        (Access { write, fetch: false, user, smap }, bank)
    }

    /// A write that touches decoded code: what was decoded is dropped. Unless the instruction runs alone,
    /// it is started again alone, so that what follows it is decoded anew.
    fn write_to_code(&mut self, physical: u64, size: usize) -> Result<(), Raised> {
        if !self.ram.is_code(physical, size) {
            return Ok(());
        }
        if !self.is_alone {
            self.stop = Stop::Alone;
            return Err(Raised);
        }
        if let Some(page) = self.ram.page_number(physical) {
            self.ram.code().clear(page);
        }
        self.blocks.invalidate(&self.ram, physical);
        self.order(Order::DropCode(Self::page_of(physical)), false);
        Ok(())
    }

    fn load_outside(&mut self, physical: u64, into: &mut [u8]) -> Result<(), Raised> {
        let mut at = physical;
        for piece in into.chunks_mut(8) {
            let width = piece.len() as u8;
            let value = match self.load_local_apic(at, width) {
                Some(value) => value,
                None => self.outside(Outside::MemoryRead { address: at, width })?,
            };
            piece.copy_from_slice(&value.to_le_bytes()[..piece.len()]);
            at = at.wrapping_add(piece.len() as u64);
        }
        Ok(())
    }

    fn store_outside(&mut self, physical: u64, from: &[u8]) -> Result<(), Raised> {
        let mut at = physical;
        for piece in from.chunks(8) {
            let width = piece.len() as u8;
            let mut bytes = [0; 8];
            bytes[..piece.len()].copy_from_slice(piece);
            let value = u64::from_le_bytes(bytes);
            let inside = self.store_local_apic(at, width, value)
                || self.doorbells.ring(IoAddress::Mmio(at), width, value);
            if !inside {
                self.outside(Outside::MemoryWrite { address: at, width, value })?;
            }
            at = at.wrapping_add(piece.len() as u64);
        }
        Ok(())
    }

    /// The answer from outside, or out of the instruction until it is there.
    pub(crate) fn outside(&mut self, request: Outside) -> Result<u64, Raised> {
        if let Some(value) = self.replay.ask(request) {
            return Ok(value);
        }
        self.stop = Stop::Outside;
        Err(Raised)
    }
}

/// Whether bits 47–63 are all the same.
pub(crate) fn is_canonical(linear: u64) -> bool {
    (linear as i64) << 16 >> 16 == linear as i64
}
