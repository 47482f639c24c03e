//! MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS, alone and repeated.
//!
//! An iteration either happens as a whole, registers included, or faults with nothing changed: so a page fault in the middle of
//! a repeated instruction finds the registers at the iteration that faulted, and the instruction goes on from there. The
//! law of `op`, that nothing changes before the last fault, holds for each iteration by itself.
//!
//! ```text
//! repeated ─► count 0? ─► next instruction
//!    ▲           │
//!    │       many iterations at once (copy, fill: within a page, upwards, no overlap that tells) or one
//!    └───────────┘   after some hundred turns, or single-stepping: out to the run loop with RIP still here
//! ```

mod block;
mod cursor;
mod port;
mod repeat;
mod select;
mod step;

pub use select::select;
