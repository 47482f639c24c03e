//! The sink process: a detached VM's console is never without a reader.
//!
//! ```text
//!  device --output--> [history] --> viewer, viewer, …
//!  device <--input--- [input]  <--- viewer, viewer, …
//! ```
//!
//! The device's stream is read as fast as it comes, so that a guest never waits for somebody to look;
//! the last bytes are kept for the next viewer. What a viewer types goes to the device. Both streams
//! carry bytes that are looked at by nobody in here.
//!
//! Law: memory is bounded whatever guest and viewers do. A viewer that does not keep up is dropped.
//! Input for which the device has no room stays in the viewers' sockets.
//!
//! One thread, one epoll, and every call on a stream is one that cannot block, whatever flags a peer
//! puts on the description it shares with us.
#![forbid(unsafe_code)]

pub mod history;
pub mod keeper;
pub mod viewer;

#[cfg(test)]
mod tests;
