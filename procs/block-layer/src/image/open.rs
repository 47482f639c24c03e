//! Taking the image's descriptor: what it is, and what the guest is told of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bulkhead_protocol::device::DiskInfo;
use bulkhead_protocol::spec::CacheMode;
use bulkhead_sys::block_device::{self, BlockSizes};
use bulkhead_sys::file::{self, FileKind};

use super::{Image, zero};

/// Sector of every disk that does not ask for more.
const SECTOR: u32 = 512;

/// Blocks of the page cache and of most file systems: writes of less are read-modify-write.
const PAGE: u32 = 4096;

/// Why an image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither file nor block device.
    #[error("the image is neither a regular file nor a block device")]
    Kind,
    /// O_DIRECT is impossible or absurd here.
    #[error("the file system wants {0}-byte alignment for cache=none; use cache=writeback")]
    Alignment(u32),
    /// The kernel refused.
    #[error("the image cannot be examined: {0}")]
    Host(#[from] io::Error),
}

impl Image {
    /// Takes a file, opened as `cache` and `read_only` say and locked by the supervisor, of any length: what
    /// its disk is the format decides.
    pub fn container(
        file: OwnedFd,
        cache: CacheMode,
        discard: bool,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        let kind = file::kind(&file)?;
        let in_memory = file::is_in_memory(&file)? && kind == FileKind::Regular;
        let blocks = match kind {
            FileKind::Regular => file_blocks(&file, cache, in_memory)?,
            FileKind::BlockDevice => block_device::sizes(&file)?,
            FileKind::Other => return Err(OpenError::Kind),
        };
        if !(SECTOR..=PAGE).contains(&blocks.logical) || !blocks.logical.is_power_of_two() {
            return Err(OpenError::Alignment(blocks.logical));
        }
        let size = file::size(&file)?;
        let info = DiskInfo {
            size,
            logical_block: blocks.logical,
            physical_block: blocks.physical.max(blocks.logical),
            optimal_io: blocks.optimal,
            read_only,
            discard: discard && !read_only,
            flush: !read_only,
        };
        Ok(Self {
            file,
            kind,
            cache,
            in_memory,
            info,
            reads_block: AtomicBool::new(cache == CacheMode::None),
            writes_block: AtomicBool::new(cache == CacheMode::None),
            refused: zero::Refused::default(),
            length: AtomicU64::new(size),
            unsafe_to_flush: AtomicBool::new(false),
        })
    }
}

fn file_blocks(file: &OwnedFd, cache: CacheMode, in_memory: bool) -> io::Result<BlockSizes> {
    let logical = match cache {
        // Kernels before 6.1 do not say; 512 is right for all but disks of 4096-byte sectors.
        CacheMode::None if !in_memory => block_device::direct_alignment(file)?.unwrap_or(SECTOR),
        _ => SECTOR,
    };
    Ok(BlockSizes { logical: logical.max(SECTOR), physical: PAGE, optimal: 0 })
}
