//! The gdb process: a debugger's connection on one side, core on the other.
//!
//! ```text
//!  gdb --packets--> [session] --gdbstub--> [target] --DebugRequest--> core
//!      <----------- [outbox]  <----------- [link]   <-DebugReport----
//! ```
//!
//! It exists so that core never decodes what a debugger wrote: the protocol is text of forty years, and
//! parsed by `gdbstub` here, where there is nothing but the two sockets. It maps no guest memory; what it
//! may ask of the guest, core checks and bounds. Who connects owns the guest all the same: that is what a
//! debugger is for.
//!
//! One client at a time; the next one waits in the socket's backlog. A client that connects finds the
//! guest stopped, and one that leaves, in whatever way, leaves it running without breakpoints.
//!
//! Law: a client's fault ends its session and nothing else. Nothing waits for a client: what it does not
//! read is kept up to a bound, and meanwhile nothing is read from it. The only wait is for core, which
//! answers at once; heartbeats are answered meanwhile.
//!
//! Absent on purpose: reverse execution, non-stop mode, files, `monitor` commands.
#![forbid(unsafe_code)]

pub mod breakpoints;
pub mod description;
pub mod door;
pub mod fault;
pub mod fpu;
pub mod link;
pub mod outbox;
pub mod registers;
pub mod session;
pub mod target;

#[cfg(test)]
mod tests;
