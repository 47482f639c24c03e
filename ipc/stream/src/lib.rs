//! A socket's bytes without blocking, with or without TLS: what nbd-server and block-layer's NBD client
//! have in common.
//!
//! | file | what |
//! | --- | --- |
//! | [`stream`] | the connection: bytes in, bytes out, between the socket and private memory or an arena |
//! | [`tls`] | TLS in between, and what both ends make of the user's certificates |
//! | [`input`] | what has come and nobody has understood yet |
//!
//! Law: a peer's bytes never make anything here wait or panic. Certificates and keys are parsed by the sealed
//! process that uses them.
//!
//! Absent on purpose: connecting, listening, time. Sockets and deadlines are the caller's.
#![forbid(unsafe_code)]

pub mod input;
pub mod stream;
pub mod tls;

pub use input::{Filled, Input};
pub use stream::Stream;
