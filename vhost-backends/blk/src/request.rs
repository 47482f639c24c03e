//! From a chain to what it asks for (5.2.6): the header is read once, and judged.

use bulkhead_memory::GuestMemory;
use bulkhead_protocol::block_ring::Operation;
use bulkhead_virtqueue::Chain;
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

use crate::disk::{Disk, SECTOR};

/// Bytes of type, priority and sector.
pub(crate) const HEADER: u64 = 16;

/// Bytes of a range to discard or to zero: sector, number of sectors, flags.
const RANGE: usize = 16;

/// `VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP`; the others are reserved.
const UNMAP: u32 = 1;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    IoError,
    Unsupported,
}

impl Status {
    /// Its byte in the request.
    pub(crate) fn byte(self) -> u8 {
        (match self {
            Self::Ok => VIRTIO_BLK_S_OK,
            Self::IoError => VIRTIO_BLK_S_IOERR,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
        }) as u8
    }
}

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// These bytes of the image.
    Image { operation: Operation, offset: u64, len: u64 },
    /// The disk's id.
    Id,
    /// Nothing: it is answered at once.
    Answer(Status),
}

/// Reads and judges a request. What the guest says wrong is answered with an error.
pub(crate) fn understand(chain: &Chain, memory: &GuestMemory, disk: &Disk) -> Wish {
    let mut header = [0; HEADER as usize];
    if chain.writable.is_empty() || chain.readable.copy_in(memory, 0, &mut header).is_err() {
        return Wish::Answer(Status::IoError);
    }
    let [kind, _priority, low, high] = words(header);
    let sector = u64::from(low) | u64::from(high) << 32;
    let info = &disk.info;
    match kind {
        VIRTIO_BLK_T_IN => transfer(disk, Operation::Read, sector, chain.writable.len() - 1),
        VIRTIO_BLK_T_OUT if info.read_only => Wish::Answer(Status::IoError),
        VIRTIO_BLK_T_OUT => transfer(disk, Operation::Write, sector, chain.readable.len() - HEADER),
        VIRTIO_BLK_T_FLUSH if info.flush => {
            Wish::Image { operation: Operation::Flush, offset: 0, len: 0 }
        }
        VIRTIO_BLK_T_GET_ID => Wish::Id,
        VIRTIO_BLK_T_DISCARD if info.discard => range(chain, memory, disk, discard),
        VIRTIO_BLK_T_WRITE_ZEROES => range(chain, memory, disk, write_zeroes),
        _ => Wish::Answer(Status::Unsupported),
    }
}

fn transfer(disk: &Disk, operation: Operation, sector: u64, len: u64) -> Wish {
    match sector.checked_mul(SECTOR) {
        Some(_) if len == 0 => Wish::Answer(Status::Ok),
        Some(offset) if disk.contains(offset, len) => Wish::Image { operation, offset, len },
        _ => Wish::Answer(Status::IoError),
    }
}

/// The operation of a discard with these flags.
fn discard(flags: u32) -> Option<Operation> {
    (flags == 0).then_some(Operation::Discard)
}

fn write_zeroes(flags: u32) -> Option<Operation> {
    match flags {
        0 => Some(Operation::WriteZeroes),
        UNMAP => Some(Operation::WriteZeroesUnmap),
        _ => None,
    }
}

/// One range, as the configuration space says.
fn range(
    chain: &Chain,
    memory: &GuestMemory,
    disk: &Disk,
    operation: fn(u32) -> Option<Operation>,
) -> Wish {
    let mut bytes = [0; RANGE];
    let one = chain.readable.len() == HEADER + RANGE as u64;
    if disk.info.read_only || !one || chain.readable.copy_in(memory, HEADER, &mut bytes).is_err() {
        return Wish::Answer(Status::IoError);
    }
    let [low, high, sectors, flags] = words(bytes);
    let Some(operation) = operation(flags) else { return Wish::Answer(Status::Unsupported) };
    let sector = u64::from(low) | u64::from(high) << 32;
    transfer(disk, operation, sector, u64::from(sectors) * SECTOR)
}

fn words(bytes: [u8; 16]) -> [u32; 4] {
    let (words, _) = bytes.as_chunks();
    let mut each = words.iter().map(|word| u32::from_le_bytes(*word));
    std::array::from_fn(|_| each.next().unwrap_or(0))
}
