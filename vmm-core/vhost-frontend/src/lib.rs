//! The frontend side of vhost-user: core's end of the socket to a device process.
//!
//! Caller: core's event loop, with one [`VhostDevice`] for each device for as long as the VM lives: the
//! function on the PCI bus and, behind it, a [`Frontend`], which owns the device's vhost-user life across
//! any number of backends that come and die:
//!
//! ```text
//!            connect                 replies                start                acks
//!   absent ───────────► shaking hands ──────► idle ─────────────────► starting ─────────► serving
//!     ▲                       │                ▲   ◄───────── stop, GET_VRING_BASE ──────────┤
//!     └── hang-up, fault, deadline, disconnect ┴─────────────────────────────────────────────┘
//! ```
//!
//! Law: nothing here waits. [`VhostDevice::advance`] does what can be done now and hands out what
//! happened; every reply that is due has a deadline, and [`VhostDevice::deadline`] says when to call again
//! although no socket has news. The backend is hostile: what it sends is bounded, checked against
//! the [`Plan`] and against what was said before, and the first lie ends the connection.
//!
//! What a start means. *Fresh* (the guest has reset the device before): the backend is asked by
//! GET_INFLIGHT_FD to forget all requests, which clears the in-flight table; queues begin at 0.
//! *Resumed* (the backend died under a running guest): SET_INFLIGHT_FD hands the table over untouched;
//! queues go on from the used index in guest memory, and kicks and calls that the death may have
//! swallowed are rung again. A backend without in-flight table cannot be resumed: the device then needs
//! a reset ([`Event::Lost`] says so), and no request is ever guessed.
//!
//! Addresses on the wire are guest-physical addresses, in the fields for "user" addresses too: a
//! backend learns nothing of core's own layout.
//!
//! The event loop around a device:
//!
//! ```
//! # use bulkhead_vhost_frontend::{Report, VhostDevice};
//! # use std::time::Instant;
//! /// After news on a socket, a ring of the attention, the passing of the deadline, or a command.
//! fn serve(device: &mut VhostDevice, mut tell: impl FnMut(String)) {
//!     while let Some(report) = device.advance(Instant::now()) {
//!         match report {
//!             Report::Up => tell("is served".into()),
//!             Report::Fault(fault) => tell(format!("its backend {fault}")),
//!             Report::NeedsReset => tell("needs a reset".into()),
//!         }
//!     }
//! }
//! ```
//!
//! After [`VhostDevice::connect`] its [`VhostDevice::sockets`] are to be added to the poller; a fault
//! closes them. A machine that is reset waits until every device [is at rest](VhostDevice::is_at_rest)
//! before it boots again.
//!
//! Absent on purpose: SET_VRING_ERR (a backend in trouble hangs up), memory slots (the table never
//! changes, SET_MEM_TABLE is sent once a connection), SET_CONFIG, switching the log of written pages while
//! queues run, packed rings, and everything a backend could ask core to map.
#![forbid(unsafe_code)]

mod attached;
mod backend_requests;
mod device;
mod event;
mod exchange;
mod fault;
mod frontend;
mod handshake;
mod inbox;
mod message;
mod outbox;
mod phase;
mod plan;
mod reply;

pub use device::{Report, VhostDevice};
pub use event::{Event, Loss, Offer};
pub use fault::Fault;
pub use frontend::{Connection, Frontend};
pub use plan::{InflightTable, Patience, Plan, SharedRam, WrittenLog};
