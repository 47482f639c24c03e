//! Small guests, each of a few instructions, on the engine behind its traits.
//!
//! A guest speaks by `out 0x80, eax`: [`Guest::words`] collects what it says until it halts for good (a
//! write to port 0x81) or shuts down.

mod code;
mod cross;
mod debugger;
mod device;
mod event;
mod memory;
mod mode;
mod rest;
mod stage;
mod startup;
mod wire;
