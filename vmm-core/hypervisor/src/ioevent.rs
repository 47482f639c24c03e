//! Which guest writes ring a doorbell without leaving the kernel.

use serde::{Deserialize, Serialize};

/// The place that a guest writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IoAddress {
    /// A guest-physical address.
    Mmio(u64),
    /// A port.
    Pio(u16),
}

/// What must be written there; the variant is the width of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DataMatch {
    /// Any value of any width.
    Any,
    /// A one-byte write of this value.
    U8(u8),
    /// A two-byte write of this value.
    U16(u16),
    /// A four-byte write of this value.
    U32(u32),
    /// An eight-byte write of this value.
    U64(u64),
}

/// A set of guest writes that signal an eventfd instead of exiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IoEvent {
    /// Where.
    pub address: IoAddress,
    /// What.
    pub data: DataMatch,
}

impl IoEvent {
    /// Any write to a guest-physical address, the shape of a virtio queue's notification register.
    pub fn mmio(address: u64) -> Self {
        Self { address: IoAddress::Mmio(address), data: DataMatch::Any }
    }
}
