//! A lane: one thread, the queues it serves, and its part of the device.
//!
//! The first lane is the process's main thread, which also has the frontend's socket and the channel
//! to the supervisor ([`process`](crate::process)); the others have a mailbox. All lanes take the same
//! orders and give the same reports.
//!
//! ```text
//!  ┌─► serve ──► show answers, call ──► anything done? ──yes──► (now and then: poll without waiting) ─┐
//!  │                                        │ no                                                      │
//!  │                            rest: the device arms its doorbells, queues ask for kicks             │
//!  └──────── woke ◄── poll ◄────────────────┘                                                         │
//!  └──────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

mod crew;
mod mail;
mod turn;

pub use crew::Crew;
pub use mail::{Answer, QueueOrder, Report};
pub use turn::Lane;

use bulkhead_sys::poller::Token;

/// Tokens of a lane's poller. A lane has at most [`MOST_QUEUES`] queues.
pub(crate) const MAILBOX: Token = 0;
pub(crate) const FIRST_KICK: Token = 1;
pub(crate) const FIRST_OF_DEVICE: Token = 100;
pub(crate) const FIRST_OF_PROCESS: Token = 200;

/// Most queues of a device.
pub(crate) const MOST_QUEUES: u16 = 64;
