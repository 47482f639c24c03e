//! From linear to physical, as the processor would go: for a debugger, which may read everything.
//!
//! Law: tables are the guest's, and hostile. Each entry is fetched once and checked when it is used as an
//! address; the number of steps is that of the levels. Nothing is marked as accessed.
//!
//! Absent on purpose: permissions, and the processor's cached translations: a table that the guest has
//! changed without telling its processor is read as it stands.

use bulkhead_hypervisor::x86_64::kvm_sregs;
use bulkhead_memory::{GuestMemory, GuestRange};

/// CR0.PG, CR4.PSE, CR4.PAE, CR4.LA57, EFER.LMA.
const PAGING: u64 = 1 << 31;
const LARGE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const FIVE: u64 = 1 << 12;
const LONG: u64 = 1 << 10;

const PRESENT: u64 = 1;
/// A page, not a table.
const LEAF: u64 = 1 << 7;
/// Bits 12 to 51.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LOW: u64 = 0xffff_ffff;

/// The physical address behind a linear one, if there is one.
pub(super) fn translate(memory: &GuestMemory, sregs: &kvm_sregs, linear: u64) -> Option<u64> {
    if sregs.cr0 & PAGING == 0 {
        return Some(linear & LOW);
    }
    let root = sregs.cr3;
    if sregs.efer & LONG != 0 {
        let levels = if sregs.cr4 & FIVE != 0 { 5 } else { 4 };
        return is_canonical(linear, levels)
            .then(|| wide(memory, root & ADDRESS, levels, linear))?;
    }
    let linear = linear & LOW;
    if sregs.cr4 & PAE == 0 {
        return narrow(memory, root & LOW & ADDRESS, sregs.cr4 & LARGE != 0, linear);
    }
    // The first of three levels has four entries, at a root of its own alignment, and no pages.
    let entry = word(memory, (root & LOW & !0x1f) + (linear >> 30) * 8)?;
    wide(memory, entry & ADDRESS, 2, linear).filter(|_| entry & PRESENT != 0)
}

fn is_canonical(linear: u64, levels: u32) -> bool {
    let unused = 64 - 12 - 9 * levels;
    (linear << unused) as i64 >> unused == linear as i64
}

/// Levels of 512 entries of 8 bytes.
fn wide(memory: &GuestMemory, root: u64, levels: u32, linear: u64) -> Option<u64> {
    let mut table = root;
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let entry = word(memory, table + (linear >> shift & 0x1ff) * 8)?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || level <= 2 && entry & LEAF != 0 {
            let within = (1u64 << shift) - 1;
            return Some(entry & ADDRESS & !within | linear & within);
        }
        table = entry & ADDRESS;
    }
    None
}

/// Two levels of 1024 entries of 4 bytes.
fn narrow(memory: &GuestMemory, root: u64, large: bool, linear: u64) -> Option<u64> {
    let directory = half(memory, root + (linear >> 22) * 4)?;
    if directory & PRESENT == 0 {
        return None;
    }
    if large && directory & LEAF != 0 {
        // Bits 13 to 20 are bits 32 to 39 of the address.
        let high = (directory >> 13 & 0xff) << 32;
        return Some(directory & 0xffc0_0000 | high | linear & 0x3f_ffff);
    }
    let entry = half(memory, (directory & ADDRESS) + (linear >> 12 & 0x3ff) * 4)?;
    (entry & PRESENT != 0).then_some(entry & ADDRESS | linear & 0xfff)
}

fn word(memory: &GuestMemory, address: u64) -> Option<u64> {
    memory.check(GuestRange::new(address, 8)).ok()?.read_obj(0).ok()
}

fn half(memory: &GuestMemory, address: u64) -> Option<u64> {
    let entry: u32 = memory.check(GuestRange::new(address, 4)).ok()?.read_obj(0).ok()?;
    Some(entry.into())
}

#[cfg(test)]
mod tests;
