//! Guest memory: what a guest says about its memory, checked before a byte is touched.
//!
//! Callers: core (all of RAM), the device processes (what they were granted). The path is always the
//! same: a [`GuestRange`] is an allegation, [`GuestMemory::check`] turns it into a [`GuestSlice`], and
//! only a `GuestSlice` (or the [`GuestWindow`] that keeps one alive) can move bytes.
//!
//! ```
//! # use bulkhead_memory::{Grant, GuestRange, RamLayout, Rights};
//! # let layout = RamLayout::new(1 << 20)?;
//! # let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total())?;
//! # let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd)?;
//! let mut header = [0; 16];
//! memory.check(GuestRange::new(0x1000, 16))?.copy_in(&mut header)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Law: never a `&[u8]` over guest memory (the guest writes at the same time, so such a slice would be
//! unsound); every length comes from a check, none from the guest; what was read once is not read again.
//!
//! What is written through here can be logged page by page ([`GuestMemory::log_writes`]).
//!
//! Absent on purpose: translation of a frontend's user
//! addresses (the vhost-user table in `backend-kit` owns it), and descriptors: a mapping outlives the
//! descriptor it was made from, so none is kept here.
#![allow(unsafe_code, reason = "volatile slices are made from the addresses of mappings here")]

mod grant;
mod layout;
mod memory;
mod range;
mod region;
mod slice;
mod window;
mod written;

pub use bulkhead_sys::mapping::Rights;
pub use grant::Grant;
pub use layout::{HIGH_RAM_START, LOW_RAM_END, LayoutError, RamLayout, RamRegion};
pub use memory::{GuestMemory, MapError, RegionFault};
pub use range::{GuestRange, OutOfRange};
pub use region::{MappedRegion, MappedRegions};
pub use slice::{AccessError, GuestSlice};
pub use vm_memory::ByteValued;
pub use window::GuestWindow;
pub use written::{PAGES_OF_WORD, WrittenPages};
