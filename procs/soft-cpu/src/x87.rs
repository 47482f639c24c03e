//! What every x87 instruction computes: the host's own FPU on the guest's FXSAVE image.
//!
//! An instruction is: load the image, run the same opcode, store the image, leave the host's FPU as Rust wants it. That is
//! slow (two FXSAVE-sized transfers) and exact in every corner, and programs of today use x87 for little but its control word.
//! The control instructions (`control`, `environment`) only move bits of the image and never load it.
//!
//! Called by the x87 handlers. Laws: the caller has looked for a pending exception (`control::is_pending`), so the host
//! never traps; an exception that the instruction itself raises stays in the image, as on hardware, until the next waiting
//! instruction. Pointers into the host (instruction and operand) never reach the guest: `run` puts the guest's in.

pub mod control;
pub mod environment;
pub mod handlers;
pub mod run;
mod select;
pub mod whole;

pub use select::select;
