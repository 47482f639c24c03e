//! virtio-blk (virtio 1.2 section 5.2) in front of block rings: the device of the vhost-blk process.
//!
//! ```text
//!   guest ─virtqueue─► request ─► pieces ─► span of the arena ─► block ring ─► block-layer
//!                         ▲ status, data copied back, in-flight entry cleared, call │
//!                         └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Each queue has a ring ([`bulkhead_block_client`]), a lane and a [`BlkQueue`] of its own; they share
//! nothing.
//!
//! Law:
//! - The image is out of reach: only numbers that were checked against the disk's size and bytes in
//!   the arena go to block-layer, and only bytes and a status come back.
//! - A request in flight owns its descriptors' copies and its spans; nothing is read from the guest
//!   a second time but the data of a write that has to be submitted again.
//! - No allocation per request.
//! - A block-layer that is dead means waiting; one that breaks the ring's law means an end with a
//!   record, and a successor with a fresh ring.
#![forbid(unsafe_code)]

mod commands;
mod disk;
mod queue;
mod request;

pub use commands::{Commands, Live, Order};
pub use disk::Disk;
pub use queue::{BlkQueue, Part};
