//! What every vhost-user device process is built from.
//!
//! A device writes [`Device`]: what to do with requests. The kit does the rest: the vhost-user
//! protocol towards the frontend, queues of both kinds with their in-flight tables, threads,
//! heartbeats, and what the supervisor says.
//!
//! ```text
//!   supervisor ──channel──┐                           ┌── kick, call ── guest
//!   frontend ──vhost-user─┤ process ─► session ─► lane ── queue ── Device ── its service
//!                         └───────────────────► lane ── queue ── Device ── its service
//! ```
//!
//! Callers: `blk`, `console`, `rng`.
//!
//! Law: the frontend, the guest behind it and the tables of a predecessor are hostile. What they say
//! is an allegation until it was checked; what they do wrong costs their own connection or queue.
//! Nothing here blocks but the poll of a lane.
//!
//! Absent on purpose: `vhost-user-backend`'s daemon (one connection per object, and it refuses
//! in-flight tables; it serves the tests as a peer), post-copy (it comes with migration), and
//! memory made here (`SHMEM_MAP`, shared objects).
#![forbid(unsafe_code)]

mod device;
mod inflight;
mod lane;
mod link;
mod process;
mod queue;
mod session;
mod wire;

pub use device::{Device, DeviceFault, Queues, Rest};
pub use inflight::{InflightTable, TableError, TableFault};
pub use lane::Crew;
pub use link::Link;
pub use process::{Instruction, Process, ProcessError, Role, leave};
pub use queue::{LiveQueue, QueueStart, StartFault, Taken, Token};
pub use session::Identity;
