//! The way to block-layer, as vhost-blk and nbd-server have it: ring, arena, doorbells, and who owns
//! which tag.
//!
//! ```text
//!   piece ──► tag, span ──► submit ──► publish ──► block-layer ──► next_done ──► release
//!                             ▲                        │ replaced
//!                             └─────── resubmit ◄──────┘
//! ```
//!
//! A piece is the part of a request that fits one ring request. Law: at most as many pieces are out as
//! the ring has entries; each owns its tag and its span until its completion. A completion that names a
//! tag which is not out blames block-layer.
//!
//! Absent on purpose: what a request is, who may hold how much of the arena, and how data gets into a
//! span. A piece says whose part it is by a type of its owner's.
#![forbid(unsafe_code)]

mod link;
mod piece;

pub use link::{BlockClient, Link, LinkFault};
pub use piece::{Done, Piece, Unfinished};
