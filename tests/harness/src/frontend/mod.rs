//! A vhost-user-blk frontend on the host: what a guest and its monitor would be, without either.
//!
//! Tests and benchmarks drive a disk through it: real virtqueues in a memory object, any legal layout
//! of a request's descriptors, and the way a monitor behaves when its backend dies (the rings stay,
//! the in-flight table goes to the successor). It speaks through the `vhost` crate, which is another
//! implementation than the one core uses, so that both ends of our own wire have a stranger to face.
//!
//! ```no_run
//! # use bulkhead_harness::frontend::{Frontend, Layout, Request};
//! # use std::time::Duration;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut frontend, mut queues) = Frontend::connect("disk.sock".as_ref(), 1, 16)?;
//! let queue = &mut queues[0];
//! let slot = queue.submit(Request::Read { sector: 0, len: 4096 }, &Layout::PLAIN)?;
//! queue.kick();
//! let done = loop {
//!     match queue.wait(Duration::from_secs(1))? {
//!         Some(done) => break done,
//!         None if frontend.is_hung_up() => frontend.reconnect()?,
//!         None => {}
//!     }
//! };
//! assert!(done.slot == slot && done.is_ok());
//! let mut block = [0; 4096];
//! queue.read_data(done.slot, &mut block)?;
//! # Ok(())
//! # }
//! ```
//!
//! Absent on purpose: packed rings, and any notion of what the data means.

mod connection;
mod error;
mod layout;
mod memory;
mod options;
mod queue;
mod request;
mod ring;
mod session;
mod watchdog;

pub use error::FrontendError;
pub use layout::{Cut, Layout};
pub use options::{Options, Sharing};
pub use queue::{Completion, Queue, QueueError, Slot};
pub use request::{Request, SECTOR, Status};
pub use session::Frontend;
