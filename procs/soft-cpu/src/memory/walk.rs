//! The page walk: 4-level, PAE and 32-bit tables, or none (Intel SDM volume 3, chapter 4).
//!
//! Accessed and dirty bits are set in the tables by compare-and-exchange, because the guest's other
//! processors change the same entries.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::ram::PAGE;
use crate::cpu::Cpu;
use crate::fault::{Exception, vector};
use crate::state::{cr0, cr4, efer};

/// What an access wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// To write.
    pub write: bool,
    /// To execute.
    pub fetch: bool,
    /// At privilege level 3.
    pub user: bool,
    /// User pages are refused to supervisor data accesses (SMAP, and EFLAGS.AC does not lift it).
    pub smap: bool,
}

/// What a page permits to accesses of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address of the access.
    pub physical: u64,
    /// It may be written, and is marked dirty.
    pub write: bool,
    /// It survives a change of address space.
    pub global: bool,
    /// Bits of an address within the page: 12, or more for a large one.
    pub page_bits: u32,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bits of a page fault's error code.
const CODE_PRESENT: u32 = 1;
const CODE_WRITE: u32 = 1 << 1;
const CODE_USER: u32 = 1 << 2;
const CODE_RESERVED: u32 = 1 << 3;
const CODE_FETCH: u32 = 1 << 4;

/// Physical address bits that we tell guests of.
pub const PHYSICAL_BITS: u32 = 46;
const RESERVED: u64 = ADDRESS & !((1 << PHYSICAL_BITS) - 1);
/// With PAE these are reserved as well; in 4-level paging, software's.
const RESERVED_PAE: u64 = 0x7ff << 52;

/// Which tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Legacy,
    Pae,
    Long,
}

/// An entry in guest RAM, of either width.
#[derive(Debug, Clone, Copy)]
struct Slot {
    host: *mut u8,
    physical: u64,
    wide: bool,
}

impl Slot {
    fn load(self) -> u64 {
        if self.wide {
            // SAFETY: the slot is eight bytes of guest RAM at a multiple of eight.
            unsafe { AtomicU64::from_ptr(self.host.cast()) }.load(Ordering::Acquire)
        } else {
            // SAFETY: the slot is four bytes of guest RAM at a multiple of four.
            u64::from(unsafe { AtomicU32::from_ptr(self.host.cast()) }.load(Ordering::Acquire))
        }
    }

    /// Sets bits if the entry is still `old`.
    fn mark(self, old: u64, bits: u64) -> bool {
        let new = old | bits;
        if new == old {
            return true;
        }
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        if self.wide {
            // SAFETY: as in `load`.
            let entry = unsafe { AtomicU64::from_ptr(self.host.cast()) };
            entry.compare_exchange(old, new, success, failure).is_ok()
        } else {
            // SAFETY: as in `load`.
            let entry = unsafe { AtomicU32::from_ptr(self.host.cast()) };
            entry.compare_exchange(old as u32, new as u32, success, failure).is_ok()
        }
    }
}

/// Where a walk ended: the last entry and what all of them together permit.
struct Leaf {
    slot: Slot,
    entry: u64,
    /// AND of writable and user, OR of no-execute, over all levels.
    rights: u64,
    /// Bits of the address below the page.
    offset_bits: u32,
    base: u64,
}

impl Cpu {
    /// Translates a linear address, setting accessed and dirty bits; the exception is the page fault.
    pub fn translate(&mut self, linear: u64, access: Access) -> Result<Translation, Exception> {
        if self.control.cr0 & cr0::PG == 0 {
            let physical = linear & 0xffff_ffff;
            return Ok(Translation { physical, write: true, global: false, page_bits: 12 });
        }
        loop {
            let leaf = self.walk(linear, access)?;
            let allowed = self.judge(&leaf, linear, access)?;
            let dirty = access.write || leaf.entry & DIRTY != 0;
            let marks = ACCESSED | if access.write { DIRTY } else { 0 };
            if self.mark_entry(leaf.slot, leaf.entry, marks) {
                let offset = linear & ((1 << leaf.offset_bits) - 1);
                return Ok(Translation {
                    physical: leaf.base + offset,
                    write: allowed.write && dirty,
                    page_bits: leaf.offset_bits,
                    ..allowed
                });
            }
        }
    }

    /// Sets bits of a table's entry if it is still `old`; that is a write like any other.
    fn mark_entry(&self, slot: Slot, old: u64, bits: u64) -> bool {
        let is_marked = slot.mark(old, bits);
        if old | bits != old {
            self.ram.note_written(slot.physical);
        }
        is_marked
    }

    fn format(&self) -> Format {
        if self.control.efer & efer::LMA != 0 {
            Format::Long
        } else if self.control.cr4 & cr4::PAE != 0 {
            Format::Pae
        } else {
            Format::Legacy
        }
    }

    fn walk(&self, linear: u64, access: Access) -> Result<Leaf, Exception> {
        let format = self.format();
        let absent = |code| self.page_fault(linear, access, code);
        let no_execute = self.control.efer & efer::NXE != 0;
        let mut rights = WRITABLE | USER;
        let (mut table, mut level) = match format {
            Format::Long => (self.control.cr3 & ADDRESS, 3),
            Format::Pae => {
                let pointer = self.pae_pointers[(linear >> 30 & 3) as usize];
                if pointer & PRESENT == 0 {
                    return Err(absent(0));
                }
                (pointer & ADDRESS, 1)
            }
            Format::Legacy => (self.control.cr3 & 0xffff_f000, 1),
        };
        let wide = format != Format::Legacy;
        let (index_bits, size) = if wide { (9, 8) } else { (10, 4) };
        loop {
            let shift = 12 + index_bits * level;
            let index = linear >> shift & ((1 << index_bits) - 1);
            // A table where no RAM is reads as all ones on hardware; here, as not present.
            let Some(host) = self.ram.host(table + index * size, size) else {
                return Err(absent(0));
            };
            let slot = Slot { host, physical: table + index * size, wide };
            let entry = slot.load();
            if entry & PRESENT == 0 {
                return Err(absent(0));
            }
            let large = level > 0
                && entry & LARGE != 0
                && (wide && level <= 2 || !wide && self.control.cr4 & cr4::PSE != 0);
            let mut reserved = match format {
                Format::Long => RESERVED,
                Format::Pae => RESERVED | RESERVED_PAE,
                // Of a page of 4 MiB, between its flags and its address.
                Format::Legacy => u64::from(large) << 21,
            };
            if !no_execute && wide {
                reserved |= NO_EXECUTE;
            }
            if level == 3 {
                reserved |= LARGE;
            }
            if large && wide {
                reserved |= ((1 << shift) - 1) & ADDRESS & !(1 << 12);
            }
            if entry & reserved != 0 {
                return Err(absent(CODE_PRESENT | CODE_RESERVED));
            }
            rights = rights & entry & (WRITABLE | USER) | (rights | entry) & NO_EXECUTE;
            if level == 0 || large {
                let base = match (wide, large) {
                    (true, _) => entry & ADDRESS & !((1 << shift) - 1),
                    // 4 MiB pages take bits 32–39 from bits 13–20.
                    (false, true) => entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32,
                    (false, false) => entry & 0xffff_f000,
                };
                return Ok(Leaf { slot, entry, rights, offset_bits: shift, base });
            }
            if entry & ACCESSED == 0 && !self.mark_entry(slot, entry, ACCESSED) {
                continue;
            }
            table = if wide { entry & ADDRESS } else { entry & 0xffff_f000 };
            level -= 1;
        }
    }

    /// Whether the rights suffice (Intel SDM volume 3, 4.6).
    fn judge(&self, leaf: &Leaf, linear: u64, access: Access) -> Result<Translation, Exception> {
        let is_user = leaf.rights & USER != 0;
        let protect = self.control.cr0 & cr0::WP != 0;
        let writable = leaf.rights & WRITABLE != 0 || !access.user && !protect;
        let smep = self.control.cr4 & cr4::SMEP != 0;
        let execute = leaf.rights & NO_EXECUTE == 0 && !(is_user && !access.user && smep);
        let reachable =
            if access.user { is_user } else { access.fetch || !(is_user && access.smap) };
        let allowed = reachable && (!access.write || writable) && (!access.fetch || execute);
        if !allowed {
            return Err(self.page_fault(linear, access, CODE_PRESENT));
        }
        let global = leaf.entry & GLOBAL != 0 && self.control.cr4 & cr4::PGE != 0;
        Ok(Translation { physical: 0, write: writable, global, page_bits: 12 })
    }

    fn page_fault(&self, linear: u64, access: Access, code: u32) -> Exception {
        let told = self.control.efer & efer::NXE != 0 && self.control.cr4 & cr4::PAE != 0
            || self.control.cr4 & cr4::SMEP != 0;
        let mut code = code;
        for (applies, bit) in [
            (access.write, CODE_WRITE),
            (access.user, CODE_USER),
            (access.fetch && told, CODE_FETCH),
        ] {
            if applies {
                code |= bit;
            }
        }
        Exception { vector: vector::PF, code: Some(code), address: linear }
    }

    /// Reads the four page-directory pointers that PAE keeps in the processor; `false` if one has
    /// reserved bits set.
    pub fn load_pae_pointers(&mut self, cr3: u64) -> bool {
        const RESERVED_IN_POINTER: u64 = 0x1e6 | RESERVED | RESERVED_PAE | NO_EXECUTE;
        let Some(host) = self.ram.host(cr3 & 0xffff_ffe0, 32) else {
            return false;
        };
        let pointers: [u64; 4] = std::array::from_fn(|index| {
            let physical = (cr3 & 0xffff_ffe0) + 8 * index as u64;
            Slot { host: host.wrapping_add(8 * index), physical, wide: true }.load()
        });
        if pointers
            .iter()
            .any(|pointer| pointer & PRESENT != 0 && pointer & RESERVED_IN_POINTER != 0)
        {
            return false;
        }
        self.pae_pointers = pointers;
        true
    }

    /// The page that `linear` lies in.
    pub(crate) fn page_of(linear: u64) -> u64 {
        linear & !(PAGE - 1)
    }
}
