//! What clients are told of the disk.

use bulkhead_nbd::option::{Info, flag};
use bulkhead_protocol::device::DiskInfo;

use crate::limits::MOST_PAYLOAD;

/// Smallest preferred block: a page, below which every file system reads and writes one.
const PAGE: u32 = 4096;

/// The export.
#[derive(Debug, Clone)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// A line for people.
    pub description: String,
    /// Its dirty bitmap, if it shows one.
    pub bitmap: Option<String>,
    /// The disk.
    pub disk: DiskInfo,
}

impl Export {
    /// Whether a client that asks for `name` means this one. The empty name is the default export.
    pub fn is_called(&self, name: &str) -> bool {
        name.is_empty() || name == self.name
    }

    /// Smallest unit of a request in bytes.
    pub fn block(&self) -> u64 {
        self.disk.logical_block.max(512).into()
    }

    /// Transmission flags; with chunks, reads can be asked not to be fragmented.
    pub fn flags(&self, chunks: bool) -> u16 {
        let DiskInfo { read_only, flush, discard, .. } = self.disk;
        let always = flag::HAS_FLAGS | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
        let sometimes = [
            (flag::READ_ONLY, read_only),
            (flag::SEND_FLUSH, flush),
            (flag::SEND_FUA, flush),
            (flag::SEND_TRIM, discard && !read_only),
            (flag::SEND_WRITE_ZEROES, !read_only),
            (flag::SEND_FAST_ZERO, !read_only),
            (flag::SEND_DF, chunks),
        ];
        let offered = sometimes.into_iter().filter(|(_, offered)| *offered);
        offered.fold(always, |flags, (flag, _)| flags | flag)
    }

    /// What a client may want to know of it, in the order of the standard.
    pub fn infos(&self, chunks: bool) -> [Info<'_>; 4] {
        let DiskInfo { physical_block, optimal_io, .. } = self.disk;
        let minimum = self.block() as u32;
        let preferred = physical_block.max(optimal_io).max(PAGE).max(minimum);
        // The standard wants a power of two not greater than the maximum.
        let preferred = preferred.checked_next_power_of_two().unwrap_or(PAGE).min(MOST_PAYLOAD);
        [
            Info::Export { size: self.disk.size, flags: self.flags(chunks) },
            Info::Name(&self.name),
            Info::Description(&self.description),
            Info::BlockSize { minimum, preferred, maximum: MOST_PAYLOAD },
        ]
    }
}
