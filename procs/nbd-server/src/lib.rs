//! The NBD server: one process for one export. It holds sockets and a block ring, and no image.
//!
//! ```text
//!   client ─socket─► handshake ─► requests ─► pieces ─► span of the arena ─► block ring ─► block-layer
//!      ▲                             │ answered at once (errors)                │
//!      └──────── output ◄────────────┴────────── replies ◄──────────────────────┘
//! ```
//!
//! One thread and one loop ([`server`]). A [`client`] is a [`bulkhead_stream`], what it has sent
//! and is not understood yet, and what it has not taken yet ([`output`]); first it negotiates
//! ([`handshake`]), then it asks ([`transmission`], [`judge`]). Data goes between socket and arena without
//! a copy, unless there is TLS in between. [`bulkhead_block_client`] is the way to block-layer, as vhost-blk has one.
//!
//! Law:
//! - What a client says is an allegation; [`judge`] holds it against the disk before anything of it goes
//!   on the ring.
//! - Everything has an end: [`limits`] bounds how many clients there are, how much each may hold, and how
//!   long it may take. A client that waits costs the others nothing but its share.
//! - A block-layer that is dead means waiting; clients notice a pause. One that breaks the ring's law
//!   means an end with a record, and a successor with a fresh ring.
//!
//! Absent on purpose: image files, paths, connecting anywhere. The listening socket is the supervisor's.
#![forbid(unsafe_code)]

pub mod client;
pub mod desk;
pub mod export;
pub mod handshake;
pub mod judge;
pub mod limits;
pub mod output;
pub mod owner;
pub mod plan;
pub mod replay;
pub mod server;
pub mod share;
pub mod status;
pub mod transmission;
pub mod work;
