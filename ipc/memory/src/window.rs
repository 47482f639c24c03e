//! A checked piece of guest memory that owns its mapping.
//!
//! For what is looked at for as long as a device runs: the rings of a virtqueue, frozen when the
//! driver is ready. Buffers of single requests are checked each time instead.

use std::sync::Arc;

use crate::range::GuestRange;
use crate::region::MappedRegion;
use crate::slice::GuestSlice;
use crate::written::Log;

/// A proof that does not borrow: [`GuestMemory::hold`](crate::GuestMemory::hold) makes it.
///
/// Invariant: `range` lies in `region`.
#[derive(Debug, Clone)]
pub struct GuestWindow {
    region: MappedRegion,
    range: GuestRange,
    log: Arc<Log>,
}

impl GuestWindow {
    pub(crate) fn new(region: MappedRegion, range: GuestRange, log: Arc<Log>) -> Self {
        Self { region, range, log }
    }

    /// Which guest memory it is.
    pub fn range(&self) -> GuestRange {
        self.range
    }

    /// The memory itself.
    #[inline]
    pub fn slice(&self) -> GuestSlice<'_> {
        let offset = self.range.addr.wrapping_sub(self.region.ram().guest_addr);
        let slice = self.region.volatile(offset, self.range.len);
        // The invariant makes this always `Some`; were it ever broken, an empty slice refuses all.
        let slice = slice.unwrap_or_else(|| (&mut [][..]).into());
        GuestSlice::new(slice, self.range.addr, self.region.rights(), &self.log)
    }
}
