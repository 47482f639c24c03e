//! The NBD protocol as bytes, for both ends: our server and our client.
//!
//! Source: the NBD project's `doc/proto.md`; sections are named beside what follows them. Only the fixed
//! newstyle handshake is spoken. All numbers on the wire are big-endian.
//!
//! | file | what |
//! | --- | --- |
//! | [`handshake`] | greeting, option headers, option replies |
//! | [`option`] | what the options carry |
//! | [`context`] | names of metadata contexts and their bits |
//! | [`request`] | what a client asks in the transmission phase, compact and extended |
//! | [`reply`] | how it is answered: simple, structured, extended |
//! | [`negotiation`] | the handshake as a client has it |
//! | [`answer`] | what a server answers, held against what was asked |
//! | [`error`] | the numbers that errors have on the wire |
//!
//! Law: pure functions on bytes. A length that a peer states is compared with a limit before anything is
//! allocated or waited for, and no bytes of a peer make anything here panic. Decoders take what the peer
//! said apart and judge only its form; whether it may be done is the caller's matter.
//!
//! Absent on purpose: sockets, TLS, time.
#![forbid(unsafe_code)]

pub mod answer;
pub mod context;
mod cursor;
pub mod error;
pub mod handshake;
pub mod negotiation;
pub mod option;
pub mod reply;
pub mod request;

pub use cursor::Malformed;

/// Longest name of an export, of a metadata context, and of any other text ("String values").
pub const LONGEST_NAME: usize = 4096;

#[cfg(test)]
mod tests;
