//! Decoded code.

mod code_map;

use code_map::CodeMap;

use crate::memory::Ram;

/// All blocks of one vCPU.
#[derive(Debug)]
pub struct Blocks {
    map: CodeMap,
}

impl Blocks {
    /// None yet.
    pub fn new(ram: &Ram) -> Self {
        Self { map: CodeMap::new(ram.pages()) }
    }

    /// Whether code was decoded from the page at `physical`: it must have no write tag.
    pub fn is_code_page(&self, ram: &Ram, physical: u64) -> bool {
        ram.page_number(physical).is_some_and(|page| self.map.chunks(page) != 0)
    }

    /// Whether code was decoded from bytes near these, which lie within one page.
    pub fn covers(&self, ram: &Ram, physical: u64, size: usize) -> bool {
        ram.page_number(physical)
            .is_some_and(|page| self.map.chunks(page) & CodeMap::mask(physical, size) != 0)
    }

    /// Forgets all blocks of the page at `physical` that were decoded from these bytes.
    pub fn invalidate(&mut self, ram: &Ram, physical: u64, _size: usize) {
        if let Some(page) = ram.page_number(physical) {
            self.map.clear(page);
        }
    }
}
