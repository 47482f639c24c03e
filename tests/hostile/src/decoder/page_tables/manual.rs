//! A page walk written from the manual (Intel SDM volume 3, chapter 4, tables 4-1 to 4-20), for nothing
//! but to be compared with: one step after the other, no loop over levels, no speed.
//!
//! Where the manual leaves a choice it takes the software CPU's: physical addresses of 46 bits, and a
//! table where no RAM is has no entries.

use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_soft_cpu::memory::Access;
use bulkhead_soft_cpu::state::{cr0, cr4, efer};

/// Which tables are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    None,
    Legacy,
    Pae,
    Long,
}

/// What the walk depends on.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

impl Machine {
    /// Table 4-1.
    pub fn format(self) -> Tables {
        match (self.cr0 & cr0::PG != 0, self.cr4 & cr4::PAE != 0, self.efer & efer::LMA != 0) {
            (false, ..) => Tables::None,
            (true, false, _) => Tables::Legacy,
            (true, true, false) => Tables::Pae,
            (true, true, true) => Tables::Long,
        }
    }
}

/// Bits that have to be set afterwards in the entry at an address.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    entry: u64,
    bits: u8,
}

impl Mark {
    /// Whether they are.
    pub fn is_set(self, memory: &GuestMemory) -> bool {
        super::byte(memory, self.entry).is_some_and(|byte| byte & self.bits == self.bits)
    }
}

/// A walk that found a page that permits the access.
#[derive(Debug)]
pub struct Walked {
    pub physical: u64,
    pub marks: Vec<Mark>,
}

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u8 = 1 << 5;
const D: u8 = 1 << 6;
const PS: u64 = 1 << 7;
const XD: u64 = 1 << 63;

/// What the entries passed so far permit together, and where they were.
struct Path {
    writable: bool,
    user: bool,
    executable: bool,
    entries: Vec<u64>,
}

/// Bits `low` to `high`, both included.
fn bits(low: u32, high: u32) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

fn read(memory: &GuestMemory, address: u64, size: usize) -> u64 {
    let mut bytes = [0; 8];
    let range = GuestRange::new(address, size as u64);
    // Beyond RAM: nothing is present.
    let read = memory.check(range).ok().map(|slice| slice.copy_in(&mut bytes[..size]));
    if matches!(read, Some(Ok(()))) { u64::from_le_bytes(bytes) } else { 0 }
}

/// Translates, or says the error code of the page fault.
pub fn walk(
    memory: &GuestMemory,
    machine: Machine,
    linear: u64,
    access: Access,
) -> Result<Walked, u32> {
    let mut path = Path { writable: true, user: true, executable: true, entries: Vec::new() };
    let walker = Walker { memory, machine, access };
    let physical = match machine.format() {
        Tables::None => return Ok(Walked { physical: linear & 0xffff_ffff, marks: Vec::new() }),
        Tables::Legacy => walker.legacy(linear, &mut path)?,
        Tables::Pae => walker.pae(linear, &mut path)?,
        Tables::Long => walker.long(linear, &mut path)?,
    };
    walker.check_rights(&path)?;
    let last = path.entries.len() - 1;
    let mark = |(number, entry): (usize, &u64)| {
        let is_dirty = number == last && access.write;
        Mark { entry: *entry, bits: if is_dirty { A | D } else { A } }
    };
    Ok(Walked { physical, marks: path.entries.iter().enumerate().map(mark).collect() })
}

struct Walker<'a> {
    memory: &'a GuestMemory,
    machine: Machine,
    access: Access,
}

impl Walker<'_> {
    /// The error code, 4.7.
    fn code(&self, present: bool, reserved: bool) -> u32 {
        let Machine { cr4, efer, .. } = self.machine;
        let tells_fetches = cr4 & cr4::SMEP != 0 || cr4 & cr4::PAE != 0 && efer & efer::NXE != 0;
        u32::from(present)
            | u32::from(self.access.write) << 1
            | u32::from(self.access.user) << 2
            | u32::from(reserved) << 3
            | u32::from(self.access.fetch && tells_fetches) << 4
    }

    fn entry(&self, address: u64, size: usize, reserved: u64, path: &mut Path) -> Result<u64, u32> {
        let entry = read(self.memory, address, size);
        if entry & P == 0 {
            return Err(self.code(false, false));
        }
        if entry & reserved != 0 {
            return Err(self.code(true, true));
        }
        path.writable &= entry & RW != 0;
        path.user &= entry & US != 0;
        path.executable &= entry & XD == 0;
        path.entries.push(address);
        Ok(entry)
    }

    fn peek(&self, address: u64) -> u64 {
        read(self.memory, address, 8)
    }

    /// Reserved in every entry of eight bytes.
    fn always(&self) -> u64 {
        let no_xd = if self.machine.efer & efer::NXE == 0 { XD } else { 0 };
        match self.machine.format() {
            // Bits 52 to 62 are ignored in 4-level paging and reserved with PAE.
            Tables::Pae => bits(46, 62) | no_xd,
            _ => bits(46, 51) | no_xd,
        }
    }

    /// 4.3.
    fn legacy(&self, linear: u64, path: &mut Path) -> Result<u64, u32> {
        let at = (self.machine.cr3 & bits(12, 31)) + (linear >> 22 & 0x3ff) * 4;
        let is_large = read(self.memory, at, 4) & PS != 0 && self.machine.cr4 & cr4::PSE != 0;
        // With PSE-36 and 40 bits or more, bit 21 alone is left.
        let pde = self.entry(at, 4, if is_large { 1 << 21 } else { 0 }, path)?;
        if is_large {
            return Ok(pde & bits(22, 31) | (pde >> 13 & 0xff) << 32 | linear & bits(0, 21));
        }
        let at = (pde & bits(12, 31)) + (linear >> 12 & 0x3ff) * 4;
        let pte = self.entry(at, 4, 0, path)?;
        Ok(pte & bits(12, 31) | linear & 0xfff)
    }

    /// 4.4. The four pointers were checked when CR3 was loaded, and carry no rights.
    fn pae(&self, linear: u64, path: &mut Path) -> Result<u64, u32> {
        let pointer = self.peek((self.machine.cr3 & bits(5, 31)) + (linear >> 30 & 3) * 8);
        if pointer & P == 0 {
            return Err(self.code(false, false));
        }
        self.directory(pointer & bits(12, 45), linear, path)
    }

    /// 4.5.
    fn long(&self, linear: u64, path: &mut Path) -> Result<u64, u32> {
        let at = (self.machine.cr3 & bits(12, 45)) + (linear >> 39 & 0x1ff) * 8;
        let pml4e = self.entry(at, 8, self.always() | PS, path)?;
        let at = (pml4e & bits(12, 45)) + (linear >> 30 & 0x1ff) * 8;
        let is_large = self.peek(at) & PS != 0;
        let reserved = self.always() | if is_large { bits(13, 29) } else { 0 };
        let pdpte = self.entry(at, 8, reserved, path)?;
        if is_large {
            return Ok(pdpte & bits(30, 45) | linear & bits(0, 29));
        }
        self.directory(pdpte & bits(12, 45), linear, path)
    }

    fn directory(&self, table: u64, linear: u64, path: &mut Path) -> Result<u64, u32> {
        let at = table + (linear >> 21 & 0x1ff) * 8;
        let is_large = self.peek(at) & PS != 0;
        let reserved = self.always() | if is_large { bits(13, 20) } else { 0 };
        let pde = self.entry(at, 8, reserved, path)?;
        if is_large {
            return Ok(pde & bits(21, 45) | linear & bits(0, 20));
        }
        let at = (pde & bits(12, 45)) + (linear >> 12 & 0x1ff) * 8;
        let pte = self.entry(at, 8, self.always(), path)?;
        Ok(pte & bits(12, 45) | linear & 0xfff)
    }

    /// 4.6.1.
    fn check_rights(&self, path: &Path) -> Result<(), u32> {
        let Access { write, fetch, user, smap } = self.access;
        let Machine { cr0, cr4, .. } = self.machine;
        let allowed = match (user, fetch, write) {
            (false, true, _) => path.executable && !(path.user && cr4 & cr4::SMEP != 0),
            (false, false, false) => !(path.user && smap),
            (false, false, true) => !(path.user && smap) && (path.writable || cr0 & cr0::WP == 0),
            (true, true, _) => path.user && path.executable,
            (true, false, false) => path.user,
            (true, false, true) => path.user && path.writable,
        };
        if allowed { Ok(()) } else { Err(self.code(true, false)) }
    }
}
