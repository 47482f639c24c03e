//! Small guests, each of a few instructions, on the engine behind its traits.
//!
//! A guest speaks by `out 0x80, eax`: [`Guest::words`] collects what it says until it halts for good (a
//! write to port 0x81) or shuts down.

use bulkhead_hypervisor::Hypervisor;

mod absent;
mod code;
mod cross;
mod debugger;
mod device;
mod dirty;
mod event;
mod flat;
mod halfway;
mod level;
mod memory;
mod mode;
mod pcid;
mod rest;
mod spin;
mod split;
mod stage;
mod startup;
mod straight;
mod trap;
mod wire;

/// The interpreter alone.
fn engine() -> Box<dyn Hypervisor> {
    Box::new(bulkhead_soft_cpu::Soft)
}
