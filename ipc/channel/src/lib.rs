//! Typed messages with descriptors over `SOCK_SEQPACKET`.
//!
//! One message is one datagram: a [`Message`] encoded by [`codec`], together with exactly as many
//! descriptors as its type says. Called by every process that talks to the supervisor, the launcher
//! or the control process.
//!
//! Law: what arrives is an allegation. A message that does not decode, is too long, or brings the
//! wrong number of descriptors is a [`ChannelError`] that blames the peer; its descriptors are
//! closed. Every wait has a deadline.
#![forbid(unsafe_code)]

mod channel;
pub mod codec;

pub use channel::{Channel, ChannelError, MAX_MESSAGE, Message};

#[cfg(test)]
mod tests;
