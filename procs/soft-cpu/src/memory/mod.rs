//! Guest memory as the executing processor reaches it.
//!
//! ```text
//!  read/write/modify ── tag matches ──► host instruction on guest RAM
//!   (access)        └── miss ──► slow ──► walk (page tables) ──► RAM: fill the TLB
//!                                                             ├─► code page: never a write tag
//!                                                             └─► no RAM: local APIC, doorbell, exit
//! ```
//!
//! Law: only `host` touches guest RAM, by single host instructions on addresses that `ram` proved.

pub mod access;
mod code_map;
pub(crate) mod devices;
mod dirty;
pub mod host;
pub(crate) mod order;
mod outside;
pub mod ram;
mod slow;
mod space;
pub mod tlb;
pub(crate) mod walk;
mod world;

pub(crate) use code_map::CodeMap;
pub(crate) use dirty::DirtyLog;
pub use outside::{Outside, Replay};
pub use ram::Ram;
pub(crate) use slow::is_canonical;
pub(crate) use space::SPACES;
pub use walk::{Access, Translation};
pub(crate) use world::World;
