//! Indirect tables: copied whole and once, then walked as a private copy.

use bulkhead_memory::{ByteValued, GuestMemory, GuestRange};

use crate::SplitDescriptor;
use crate::assemble::MOST_DESCRIPTORS;
use crate::fault::QueueFault;
use crate::setup::DESCRIPTOR;

/// Room for the copy of a table. The entries of packed tables have the same size; the walk over them
/// reads these bytes as the other kind.
pub(crate) type Table = Vec<SplitDescriptor>;

/// Copies the table at `range` into `table`, which grows to the longest one met.
pub(crate) fn copy<'t>(
    memory: &GuestMemory,
    range: GuestRange,
    table: &'t mut Table,
) -> Result<&'t [SplitDescriptor], QueueFault> {
    let bytes = u32::try_from(range.len).unwrap_or(u32::MAX);
    if bytes == 0 || !range.len.is_multiple_of(DESCRIPTOR) {
        return Err(QueueFault::IndirectLength(bytes));
    }
    let entries = bytes / DESCRIPTOR as u32;
    if entries > MOST_DESCRIPTORS {
        return Err(QueueFault::Endless(MOST_DESCRIPTORS));
    }
    let entries = entries as usize;
    if table.len() < entries {
        table.resize(entries, SplitDescriptor::default());
    }
    let copy = &mut table[..entries];
    match memory.check(range) {
        Ok(slice) => {
            for (at, entry) in copy.iter_mut().enumerate() {
                *entry = slice.read_obj(at * DESCRIPTOR as usize)?;
            }
        }
        Err(_) => copy_across(memory, range, copy)?,
    }
    Ok(copy)
}

/// A table that lies in more than one region of guest memory.
#[cold]
fn copy_across(
    memory: &GuestMemory,
    range: GuestRange,
    copy: &mut [SplitDescriptor],
) -> Result<(), QueueFault> {
    for (at, entry) in copy.iter_mut().enumerate() {
        let addr = range.addr.wrapping_add(at as u64 * DESCRIPTOR);
        let mut rest = entry.as_mut_slice();
        for piece in memory.pieces(GuestRange::new(addr, DESCRIPTOR)) {
            let piece = piece?;
            let (now, later) = rest.split_at_mut(piece.len());
            rest = later;
            piece.copy_in(now)?;
        }
    }
    Ok(())
}
