//! A debugger's look into guest memory, and its pokes.
//!
//! Linear addresses go page by page through the tables ([`super::walk`]); what they lead to is checked
//! against RAM like any other allegation. Where a device is, there is nothing: reading it would change it.

use bulkhead_hypervisor::x86_64::kvm_sregs;
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::gdb::MOST_BYTES;

use super::walk::translate;

const PAGE: u64 = 4096;

/// Linear pieces of `len` bytes, none of which crosses a page: offset in the whole, address, length.
fn pieces(address: u64, len: usize) -> impl Iterator<Item = (usize, u64, usize)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let at = address.checked_add(offset as u64)?;
        let piece = ((PAGE - at % PAGE) as usize).min(len - offset);
        offset += piece;
        (piece > 0).then_some((offset - piece, at, piece))
    })
}

/// Reads up to `len` bytes, as far as memory is mapped; `None`: not even the first.
pub(super) fn read(
    memory: &GuestMemory,
    sregs: &kvm_sregs,
    address: u64,
    len: usize,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len.min(MOST_BYTES)];
    let mut done = 0;
    for (offset, at, piece) in pieces(address, bytes.len()) {
        let copied = translate(memory, sregs, at).and_then(|physical| {
            let slice = memory.check(GuestRange::new(physical, piece as u64)).ok()?;
            slice.copy_in(bytes.get_mut(offset..offset + piece)?).ok()
        });
        if copied.is_none() {
            break;
        }
        done = offset + piece;
    }
    bytes.truncate(done);
    (done > 0 || len == 0).then_some(bytes)
}

/// Writes all of `bytes`, or nothing where a part is not mapped. Returns what was written to: physical
/// addresses and lengths.
pub(super) fn write(
    memory: &GuestMemory,
    sregs: &kvm_sregs,
    address: u64,
    bytes: &[u8],
) -> Option<Vec<(u64, u64)>> {
    if bytes.len() > MOST_BYTES || address.checked_add(bytes.len() as u64).is_none() {
        return None;
    }
    let mut checked = Vec::new();
    for (offset, at, piece) in pieces(address, bytes.len()) {
        let physical = translate(memory, sregs, at)?;
        let slice = memory.check(GuestRange::new(physical, piece as u64)).ok()?;
        checked.push((slice, bytes.get(offset..offset + piece)?));
    }
    for (slice, piece) in &checked {
        slice.copy_out(piece).ok()?;
    }
    Some(checked.iter().map(|(slice, piece)| (slice.addr(), piece.len() as u64)).collect())
}
