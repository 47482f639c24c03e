//! Descriptor rings and a data arena between two processes that do not trust each other.
//!
//! A client (`vhost-blk`, later `nbd-server`) submits requests, a server (`block-layer`) completes
//! them. The supervisor makes one sealed memory object per pair and incarnation with [`create`]; the
//! ends map it as [`Client`] and [`Server`]. It holds, one after the other:
//!
//! ```text
//! header · indices (a cache line each) · submission slots · completion slots · arena
//! ```
//!
//! Law:
//! - Sizes and incarnation come from the plan; what the object says about itself is only compared.
//! - Both ends can write every byte. So each end keeps its own index in private memory and believes
//!   only that, checks the other's index for impossible moves on every look, copies an entry out once
//!   and validates the copy. A peer can spoil its own data; it cannot make this end panic or leave
//!   its bounds. What it does wrong is a [`PeerFault`].
//! - A client has at most `entries` requests outstanding. So a completion ring is never full for an
//!   honest client, and a server that meets [`PushError::Full`] blames its peer instead of waiting.
//! - A doorbell is rung only for a peer that said it sleeps ([`Consumer::arm`]); how long to look
//!   again before saying so is [`Pace`]'s business.
//!
//! The waiting loop of either end, with its own doorbell `bell`:
//!
//! ```text
//! loop {
//!     while let Some(entry) = ring.pop()? { pace.found(); handle(entry)?; }
//!     other_ring.publish().ring(&peers_bell);
//!     match pace.next(cpus.shared(current_cpu), now) {
//!         Step::Spin => spin_loop(),
//!         Step::YieldOnce => { sched_yield(); pace.yielded(took, now); }
//!         Step::Arm => if ring.arm()? == Armed::Sleep { poll(bell); bell.clear(); ring.disarm(); }
//!     }
//! }
//! ```
//!
//! The model of the algorithm runs the same code on loom's atomics: the interleavings of two threads
//! and the stale values they may see (`algorithm/loom_model.rs` says what each model proves):
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test -p bulkhead-ring --release --lib --target x86_64-unknown-linux-gnu loom
//! ```
//!
//! Absent on purpose: more than one producer or consumer per ring, growth, a reset. A ring that is
//! done with is replaced by a new one with a new incarnation.
#![cfg_attr(
    not(loom),
    allow(
        unsafe_code,
        reason = "atomics are made from addresses in a shared mapping, in mapped.rs"
    )
)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "the model needs the algorithm alone"))]

mod algorithm;
mod allocator;
#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod attach;
#[cfg(not(loom))]
mod ends;
#[cfg(not(loom))]
mod entry;
mod geometry;
mod header;
#[cfg(not(loom))]
mod mapped;
mod pace;
#[cfg(not(loom))]
mod roles;

pub use algorithm::{Armed, Index, PeerFault, PushError, Wake};
pub use allocator::{ArenaAllocator, ArenaSpan, FreeError, LONGEST_SPAN, NoSpan};
#[cfg(not(loom))]
pub use arena::{Arena, ArenaSlice, OutOfArena};
#[cfg(not(loom))]
pub use attach::{AttachError, create};
#[cfg(not(loom))]
pub use ends::{Client, Cpus, Server};
#[cfg(not(loom))]
pub use entry::Entry;
pub use geometry::{GeometryError, PAGE, RingGeometry};
pub use header::{Header, HeaderFault};
pub use pace::{Pace, Step};
#[cfg(not(loom))]
pub use roles::{Consumer, Producer};
