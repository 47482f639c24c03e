//! Virtqueues as a device sees them: split and packed (virtio 1.2, sections 2.7 and 2.8).
//!
//! Callers: `backend-kit` alone; devices meet the [`Chain`]s. A queue turns what the driver wrote
//! into a [`Chain`]: two lists of guest memory, one to read and one to write, that were copied out of
//! shared memory once and checked as private copies.
//!
//! Law:
//! - Nothing is fetched twice. Indices, heads, descriptors and indirect tables are copied, the copies
//!   are judged, and only the copies are used.
//! - Every loop is bounded by a number of ours: the queue's size, or [`MOST_DESCRIPTORS`].
//! - A queue that lies is a [`QueueFault`] (blame: Guest), after which the device serves it no more
//!   until the driver sets it up anew. Why not fail the one request: a chain that cannot be read has
//!   no place for a status, and a driver that is answered without one may take a stale byte for
//!   success.
//! - No allocation per request: the caller's [`Chain`] is filled again and again.
//!
//! Why not `virtio_queue::Queue`: it knows no packed rings, cannot take up a chain again that an
//! earlier process had in flight, and cuts a chain it cannot follow short without a word. Its
//! descriptor types are used here, and in the tests it is the peer that must see the same chains.
//!
//! Absent on purpose: in-flight tables, eventfds, features beyond the rings' own (all in
//! `backend-kit`), and the driver's side, except for tests (feature `driver`).
#![forbid(unsafe_code)]

mod assemble;
mod chain;
#[cfg(any(test, feature = "driver"))]
pub mod driver;
mod fault;
mod indirect;
mod occupancy;
mod packed;
mod scatter;
mod setup;
mod split;

pub use assemble::MOST_DESCRIPTORS;
pub use chain::Chain;
pub use fault::QueueFault;
pub use packed::{PackedPosition, PackedQueue};
pub use scatter::{Scatter, ScatterError};
pub use setup::{QueueSetup, RingAddresses};
pub use split::{SplitPosition, SplitQueue};
pub use virtio_queue::desc::packed::Descriptor as PackedDescriptor;
pub use virtio_queue::desc::split::Descriptor as SplitDescriptor;

#[cfg(test)]
mod tests;
