//! Supervisor ↔ block-layer.
//!
//! ```text
//! supervisor                              block-layer
//!   |--- Plan + fds ------------------------>|  opens the graph, starts its jobs again
//!   |<-- Opened, Layers, Answer… ------------|
//!   |--- Order{call} + fds ----------------->|
//!   |<-- Answer{call} -----------------------|
//!   |              a snapshot, or a job that ends
//!   |<-- Switching{chain} -------------------|  drained, all durable that the new chain needs
//!   | records the new chain                  |
//!   |--- Switched -------------------------->|  goes over, and serves again
//!   |<-- Answer{call}, or Job{concluded} ----|
//! ```
//!
//! A block-layer that dies before the record has the old chain as its successor's plan, one that dies after it
//! the new one. Both are right, since nothing is written in between.
//!
//! Threads are made before the seal and so before the plan: the process's first argument
//! ([`crate::launch::LauncherCommand::Start`]) is the number of queues of all its exports, each of
//! which gets a thread. A plan with more queues is refused; one with fewer leaves threads idle.

mod command;
mod event;
mod job;
mod layer;
mod node;
mod order;
mod plan;
mod remote;
pub mod secret;

pub use command::BlockCommand;
pub use event::BlockEvent;
pub use job::{JobEnd, JobKind, JobPlan, JobReport, JobStatus};
pub use layer::{LayerFormat, LayerNumber, LayerPlan, NamedLayer, TargetPlan};
pub use node::{JOURNAL_BYTES, NodePlan, Qcow2Plan};
pub use order::{BlockAnswer, BlockOrder, DiskReport, LayerReport};
pub use plan::{BlockPlan, ExportPlan, Unfinished};
pub use remote::{KnownExport, MOST_CONNECTIONS, MOST_SOCKETS, RemotePlan};
