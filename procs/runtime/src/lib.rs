//! The skeleton every helper shares: sealed start, last words, heartbeats.
//!
//! ```text
//!  main                     Start::new      panic hook, no dumps, Landlock deny-all
//!    | the class makes its threads here; they are sealed with the rest
//!  Start::seal              pages of the start given back, seccomp on all threads, Sealed(report) ->
//!    | the supervisor attests from outside
//!  Helper::plan             <- Role(plan) with descriptors
//!  Helper::ready            Ready ->
//!  Helper::try_receive      <- Heartbeat, Role, Stop   in the class's own event loop
//! ```
//!
//! Called by the `main` of every process class. Law: nothing is opened after the seal, nothing a
//! supervisor sends makes a helper panic, and whatever ends a helper ends it by `exit_group`, so that
//! a death by SIGSYS always means a system call outside of the manifest.
//!
//! Absent on purpose: an event loop. Each class owns the thread that owns its queue, and a heartbeat
//! has to be answered by that very thread.
#![forbid(unsafe_code)]

mod error;
mod landlock;
mod last_words;
mod log;
mod sealed;
mod start;

pub use error::RuntimeError;
pub use log::log;
pub use sealed::{Helper, Incoming};
pub use start::{Start, seal_thread};

/// Leaves at once: no destructors and no `atexit`, which need calls that a sealed process has not.
pub fn exit(status: i32) -> ! {
    bulkhead_sys::process::exit_group(status)
}
