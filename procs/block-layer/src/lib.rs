//! The block layer: one process for one disk graph. It holds the image and no guest memory.
//!
//! ```text
//!            block ring                                  file
//! vhost-blk ───────────▶ lane ──(lease)──▶ image ──────────▶
//!                          │ no lease         ▲    ╲ would block
//!                          ▼                  │     ▼
//!                      executor ──▶ graph ──▶ raw, qcow2   workers
//! ```
//!
//! - The **executor** ([`executor`]) owns the graph: its nodes, their metadata, later their jobs. What
//!   changes the graph is a message to it, handled between two requests.
//! - A **lane** ([`lane`]) is the thread of one ring. It validates what the ring alleges ([`request`])
//!   and serves it by itself as far as its **lease** goes; the rest it sends to the executor. Leases
//!   are the executor's to grant and to revoke: a raw node leases the whole image.
//! - A [`remote`] is storage behind a socket: the executor's thread speaks with its server.
//! - A **worker** ([`pool`]) does one blocking call at a time and knows neither nodes nor rings.
//!
//! Law:
//! - The fence: file I/O is `preadv2`, `pwritev2`, `fallocate`, `fdatasync`, by a thread of this
//!   process, so that nothing is written after the process was reaped. Never io_uring.
//! - Everything from a ring is an allegation. An impossible index costs the export its rings, a
//!   wrong request gets an error; neither touches another export.
//! - All threads exist before the seal.
//!
//! Absent on purpose: paths, guest memory, image locks. The supervisor locks the image, because the
//! lock must outlive this process: between a death and the successor's start nobody else may open it.
#![forbid(unsafe_code)]

pub mod bitmap;
pub mod clock;
pub mod disk;
pub mod executor;
pub mod graph;
pub mod image;
pub mod job;
pub mod lane;
pub mod mailbox;
pub mod memory;
pub mod node;
pub mod outcome;
pub mod pool;
pub mod qcow2;
pub mod remote;
pub mod request;
pub mod status;
pub mod storage;
pub mod task;
