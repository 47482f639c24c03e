//! The control process: clients of the API socket on one side, the supervisor on the other.
//!
//! ```text
//!  client --Request--> [judge] --ToSupervisor{call}--> supervisor
//!  client <-Response-- [server] <-Answer{call}+fds---- supervisor
//!  client <-Event----- [server] <-Happened------------ supervisor
//! ```
//!
//! It exists so that the supervisor never decodes what a client wrote. A client may be anything: it
//! may be silent, flood, stop reading or hang up at any moment. What it costs the others is bounded:
//! so many connections ([`server::MOST_CLIENTS`]), one request at a time each, and nothing is ever
//! queued for it here beyond what its socket holds.
//!
//! One thread, one epoll. It waits for nobody but the supervisor.
//!
//! Why not ask the kernel who a client is (`SO_PEERCRED`)? This process lives in a user namespace
//! that knows one uid, so the kernel can say only "yours" or "not in your namespace", and the second
//! is what it says of root on a VM of root's and of a stranger alike. A check that cannot refuse
//! anybody is none. Who may connect is decided where uids mean something: the socket lies in a
//! folder of mode 0700 that the supervisor made.
#![forbid(unsafe_code)]

pub mod client;
pub mod judge;
pub mod server;

#[cfg(test)]
mod tests;
