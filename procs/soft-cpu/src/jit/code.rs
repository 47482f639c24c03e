//! The code memory of one vCPU, and what is known of its content.
//!
//! ```text
//!  code ─►   | cold code ─►        ◄─ cells
//! ```
//!
//! When one would meet the next, everything is dropped at once. Nothing is ever moved or freed alone.

use bulkhead_sys::code_memory::CodeMemory;

/// Bytes of a cell: an epoch, and the host address that it vouches for.
const CELL: u32 = 16;

/// Room that any one block finds: 64 instructions, each with an access that may miss, and two exits.
const ROOM: u32 = 64 * 256 + 4 * CELL;

/// The part of the memory that is not for cold code: one in so many.
const COLD_FROM: u32 = 4;

/// How an exit is linked. What may go on in another page is no near one's target.
#[derive(Debug, Clone, Copy)]
pub(super) enum Site {
    /// By changing the distance of its jump, which lies here, in a block of this page of the host's.
    Near { distance: u32, page: u64 },
    /// By filling its cell.
    Far { cell: u32 },
}

impl Site {
    /// Whether it may lead to a block of this page. A near one outlives all translations: were they to have changed
    /// between its block and its target, it would join two pages for ever.
    pub(super) fn may_lead_to(self, host_page: u64) -> bool {
        match self {
            Self::Near { page, .. } => page == host_page,
            Self::Far { .. } => true,
        }
    }
}

/// Cells, taken downwards.
#[derive(Debug)]
pub(super) struct Cells {
    lowest: u32,
}

impl Cells {
    pub(super) fn take(&mut self) -> Option<u32> {
        self.lowest = self.lowest.checked_sub(CELL)?;
        Some(self.lowest)
    }
}

/// The memory and how much of it is used.
#[derive(Debug)]
pub(super) struct Code {
    memory: CodeMemory,
    used: u32,
    used_cold: u32,
    pub(super) cells: Cells,
}

impl Code {
    pub(super) fn new(memory: CodeMemory) -> Self {
        let lowest = u32::try_from(memory.len()).unwrap_or(0);
        let used_cold = lowest / COLD_FROM;
        Self { memory, used: 0, used_cold, cells: Cells { lowest } }
    }

    /// Whether one more block might not fit.
    pub(super) fn is_full(&self) -> bool {
        self.used + ROOM > self.len() / COLD_FROM || self.used_cold + ROOM > self.cells.lowest
    }

    /// Where the next code will lie.
    pub(super) fn next(&self) -> u32 {
        self.used
    }

    /// Where the next cold code will lie.
    pub(super) fn next_cold(&self) -> u32 {
        self.used_cold
    }

    fn len(&self) -> u32 {
        u32::try_from(self.memory.len()).unwrap_or(0)
    }

    /// Adds code at [`next`](Self::next) and [`next_cold`](Self::next_cold). `false`: it does not fit.
    pub(super) fn add(&mut self, bytes: &[u8], cold: &[u8]) -> bool {
        let end = |used: u32, bytes: &[u8]| used.checked_add(u32::try_from(bytes.len()).ok()?);
        let (Some(end), Some(end_cold)) = (end(self.used, bytes), end(self.used_cold, cold)) else {
            return false;
        };
        if end > self.len() / COLD_FROM || end_cold > self.cells.lowest {
            return false;
        }
        self.memory.write(self.used as usize, bytes);
        self.memory.write(self.used_cold as usize, cold);
        (self.used, self.used_cold) = (end.next_multiple_of(16), end_cold.next_multiple_of(4));
        true
    }

    /// Forgets everything behind the first `kept` bytes.
    pub(super) fn empty(&mut self, kept: u32) {
        self.used = kept.next_multiple_of(16);
        self.cells.lowest = self.len();
        self.used_cold = self.len() / COLD_FROM;
    }

    /// The host address to execute from.
    pub(super) fn address(&self, place: u32) -> *const u8 {
        self.memory.execute_address().wrapping_add(place as usize)
    }

    /// Links an exit to a block.
    pub(super) fn link(&mut self, site: Site, entry: u32, epoch: u64) {
        match site {
            Site::Near { distance, .. } => {
                let jump = entry.wrapping_sub(distance + 4);
                self.memory.write(distance as usize, &jump.to_le_bytes());
            }
            Site::Far { cell } => {
                let address = self.address(entry) as u64;
                self.memory.write(cell as usize + 8, &address.to_le_bytes());
                self.memory.write(cell as usize, &epoch.to_le_bytes());
            }
        }
    }

    /// Makes the entry of a block lead to its way out.
    pub(super) fn sever(&mut self, entry: u32, gone: u32) {
        let [a, b, c, d] = gone.wrapping_sub(entry + 5).to_le_bytes();
        self.memory.write(entry as usize, &[0xe9, a, b, c, d]);
    }
}
