//! Guest memory for the decoders that read it: one for all inputs, cleared where a script writes.

use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};
use bulkhead_sys::memfd::create_sealed;
use bulkhead_virtqueue::{Chain, RingAddresses};

use crate::draw::Draw;

/// Bytes of guest memory.
pub const RAM: u64 = 1 << 20;
/// Where queues lie in it.
pub const QUEUE: u64 = 0x1000;
/// Where indirect tables may lie.
pub const TABLES: u64 = 0x4000;
/// Descriptors of a table there.
const TABLE: u32 = 64;
/// End of what scripts write to.
const END: u64 = 0x5000;

/// Most descriptors of a queue here.
pub const LARGEST: u32 = 128;

/// Fresh guest memory of `len` bytes at 0.
pub fn ram(len: u64) -> (GuestMemory, RamLayout) {
    let layout = RamLayout::new(len).expect("a multiple of a page");
    let object = create_sealed("guest", len).expect("a memory object");
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&object).expect("a mapping");
    (memory, layout)
}

/// Makes memory as it was before the script before.
pub fn clear(memory: &GuestMemory) {
    let used = GuestRange::new(QUEUE, END - QUEUE);
    memory.check(used).expect("inside of memory").zero().expect("writable memory");
}

/// Where the parts of a queue are.
pub fn layout(size: u16) -> RingAddresses {
    let size = u64::from(size);
    let driver = QUEUE + 16 * size;
    let device = (driver + 6 + 2 * size).next_multiple_of(16);
    RingAddresses { descriptors: QUEUE, driver, device }
}

/// Writes bytes of the script at `address`, as a guest does.
pub fn write(memory: &GuestMemory, address: u64, bytes: &[u8]) {
    let range = GuestRange::new(address, bytes.len() as u64);
    if let Ok(slice) = memory.check(range) {
        slice.copy_out(bytes).expect("its own length");
    }
}

/// Writes a descriptor of the script to the queue's table or to one of the indirect ones.
pub fn write_descriptor(memory: &GuestMemory, draw: &mut Draw<'_>, indirect: bool) {
    let (table, entries) = if indirect { (TABLES, TABLE) } else { (QUEUE, LARGEST) };
    let index = draw.below(entries);
    write(memory, table + 16 * u64::from(index), draw.bytes(16));
}

/// What must hold for a chain that was taken.
pub fn check(chain: &Chain, memory: &GuestMemory) {
    chain.lies_in(memory).expect("a buffer outside of guest memory");
    let pieces = chain.readable.ranges().len() + chain.writable.ranges().len();
    assert!(pieces <= bulkhead_virtqueue::MOST_DESCRIPTORS as usize, "{pieces} pieces");
    let mut bytes = [0; 64];
    let len = chain.readable.len().min(64) as usize;
    chain.readable.copy_in(memory, 0, &mut bytes[..len]).expect("readable memory");
    let len = chain.writable.len().min(64) as usize;
    // Writes may hit the rings themselves, as a guest may want; that must do no harm.
    let end = chain.writable.len() - len as u64;
    chain.writable.copy_out(memory, end, &bytes[..len]).expect("writable memory");
}

/// Memory from [`QUEUE`] on with a split queue in which a request of two descriptors is available.
pub fn split_image(size: u16) -> Vec<u8> {
    let descriptors = [descriptor(0x8000, 16, [1, 1]), descriptor(0x9000, 512, [2, 0])];
    let available = [0u16, 1, 0].map(u16::to_le_bytes).concat();
    image(size, &descriptors.concat(), &available)
}

/// Memory from [`QUEUE`] on with a packed queue in which a request of two descriptors is available.
pub fn packed_image(size: u16) -> Vec<u8> {
    const AVAILABLE: u16 = 1 << 7;
    let first = descriptor(0x8000, 16, [5, AVAILABLE | 1]);
    let descriptors = [first, descriptor(0x9000, 512, [5, AVAILABLE | 2])];
    image(size, &descriptors.concat(), &[])
}

fn descriptor(addr: u64, len: u32, halves: [u16; 2]) -> Vec<u8> {
    let halves = halves.map(u16::to_le_bytes).concat();
    [&addr.to_le_bytes()[..], &len.to_le_bytes(), &halves].concat()
}

fn image(size: u16, descriptors: &[u8], driver: &[u8]) -> Vec<u8> {
    let mut image = descriptors.to_vec();
    image.resize(usize::from(size) * 16, 0);
    image.extend(driver);
    image
}
