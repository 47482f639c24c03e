//! An engine in another process: the traits on this side, messages on the way there.
//!
//! ```text
//!  core                                  the engine's process
//!   vCPU thread n ── Turn ─────────────►  vCPU thread n: runs the guest
//!                 ◄───────────── Halt ──  (an exit)
//!   any thread ───── Request, fds ─────►  main thread: routes, irqfds, doorbells
//!                 ◄─────────── Answer ──
//!   any thread ───── kick eventfd ─────►  main thread: ends the run of vCPU n
//! ```
//!
//! Called by `core` instead of [`crate::kvm`]. The supervisor makes the channels. Kicks of devices and
//! their interrupts never come through here: the eventfds themselves are passed on.
//!
//! Law: what the engine's process says is an allegation. It may stop the guest, which is its own, and
//! nothing else: an exit that no engine reports is [`crate::EngineError::Remote`].
//!
//! Absent on purpose: any knowledge of which engine it is.

mod machine;
mod vcpu;
pub mod wire;

pub use machine::{Remote, VcpuEnds};
