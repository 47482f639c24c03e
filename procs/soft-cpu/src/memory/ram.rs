//! Guest RAM by guest-physical address: where each region lies in this process.
//!
//! The pointers are obtained once; [`Ram`] keeps the mappings alive.

use std::sync::Arc;

use bulkhead_memory::GuestMemory;

use super::devices::Devices;
use super::{CodeMap, DirtyLog};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// One region.
#[derive(Debug, Clone, Copy)]
struct Region {
    guest: u64,
    len: u64,
    host: *mut u8,
    /// Number of its first page, counted over all regions.
    first_page: u64,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Ram {
    regions: Vec<Region>,
    /// From where code was decoded.
    code: Arc<CodeMap>,
    /// What else writes to it.
    devices: Arc<Devices>,
    /// What vCPUs have written.
    dirty: Arc<DirtyLog>,
    /// Keeps what the pointers point to.
    _memory: GuestMemory,
}

// SAFETY: the pointers are to mappings that `_memory`, itself `Send` and `Sync`, keeps; they are only
// dereferenced by the single instructions of `host`.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Ram {
    /// The RAM of `memory`.
    pub fn new(memory: &GuestMemory) -> Self {
        let mut regions = Vec::new();
        let mut pages = 0;
        for region in memory.regions() {
            let ram = region.ram();
            let host = region.host_addr() as *mut u8;
            regions.push(Region { guest: ram.guest_addr, len: ram.len, host, first_page: pages });
            pages += ram.len.div_ceil(PAGE);
        }
        let code = Arc::new(CodeMap::new(pages));
        let end = regions.iter().map(|region| region.guest + region.len).max().unwrap_or(0);
        let devices = Arc::new(Devices::new(end, memory.written()));
        let dirty = Arc::new(DirtyLog::new(pages));
        Self { regions, code, devices, dirty, _memory: memory.clone() }
    }

    /// From where code was decoded.
    pub(crate) fn code(&self) -> &CodeMap {
        &self.code
    }

    /// What else writes to it.
    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// What vCPUs have written.
    pub(crate) fn dirty(&self) -> &DirtyLog {
        &self.dirty
    }

    /// Bytes within the page at `physical` were written, past the TLB.
    pub(crate) fn note_written(&self, physical: u64) {
        if let Some(page) = self.page_number(physical) {
            self.dirty.note(page);
        }
    }

    /// First page and number of pages of region `number`.
    pub(crate) fn pages_of(&self, number: usize) -> Option<(u64, u64)> {
        self.regions.get(number).map(|region| (region.first_page, region.len.div_ceil(PAGE)))
    }

    /// Whether code was decoded from the page at `physical`: it must have no write tag.
    pub(crate) fn is_code_page(&self, physical: u64) -> bool {
        self.page_number(physical).is_some_and(|page| self.code.chunks(page) != 0)
    }

    /// Whether code was decoded from bytes near these, which lie within one page.
    pub(crate) fn is_code(&self, physical: u64, size: usize) -> bool {
        self.page_number(physical)
            .is_some_and(|page| self.code.chunks(page) & CodeMap::mask(physical, size) != 0)
    }

    /// The host address of `size` bytes at `physical`, if they are all RAM of one region.
    #[inline]
    pub fn host(&self, physical: u64, size: u64) -> Option<*mut u8> {
        self.regions.iter().find_map(|region| {
            let offset = physical.checked_sub(region.guest)?;
            let end = offset.checked_add(size)?;
            (end <= region.len).then(|| region.host.wrapping_add(offset as usize))
        })
    }

    /// The guest-physical address of a host address in RAM.
    pub fn physical(&self, host: *const u8) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = (host as u64).checked_sub(region.host as u64)?;
            (offset < region.len).then(|| region.guest + offset)
        })
    }

    /// The number of the RAM page at `physical`, counted over all regions.
    #[inline]
    pub fn page_number(&self, physical: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = physical.checked_sub(region.guest)?;
            (offset < region.len).then_some(region.first_page + offset / PAGE)
        })
    }
}
