//! The messages themselves: one file for each pair of processes that speak.
//!
//! Types only: how many descriptors accompany a message stands beside it, in the order in which they
//! are sent. Whoever receives checks numbers against its own limits; nothing here is proof.
//!
//! | file | who speaks |
//! | --- | --- |
//! | [`start`] | supervisor ↔ every helper: seal report, plan, heartbeat |
//! | [`launch`] | supervisor ↔ launcher |
//! | [`session`] | the `bulkhead` command ↔ the supervisor it started |
//! | [`control`] | any client ↔ `control` ↔ supervisor |
//! | [`core`] | supervisor ↔ core |
//! | [`gdb`] | supervisor → gdb, gdb ↔ core |
//! | [`device`] | supervisor ↔ device processes (blk, console, rng) |
//! | [`block`] | supervisor ↔ block-layer |
//! | [`nbd`] | supervisor ↔ nbd-server |
//! | [`tool`] | the `bulkhead-img` command ↔ block-tool |
//! | [`block_control`] | about disks, within [`control`] |
//! | [`block_ring`] | the entries on the rings between vhost-blk or nbd-server and block-layer |
//! | [`inflight`] | layout of the in-flight tables that outlive a device process |
//! | [`record`] | what an instance's folder says to other commands |
//! | [`spec`], [`filters`], [`event`], [`class`] | what several of them carry |
//! | [`uri`] | how users name exports of NBD servers |
#![forbid(unsafe_code)]

pub mod block;
pub mod block_control;
pub mod block_ring;
pub mod class;
pub mod control;
pub mod core;
pub mod crash;
pub mod device;
pub mod event;
pub mod filters;
pub mod gdb;
pub mod inflight;
pub mod launch;
pub mod nbd;
pub mod record;
pub mod session;
pub mod sink;
pub mod soft_cpu;
pub mod spec;
pub mod start;
pub mod tool;
pub mod uri;

/// Version of all protocols between our own processes; both ends come from one build, so a
/// difference is an installation fault and is refused.
pub const VERSION: u32 = 1;
