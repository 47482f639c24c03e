//! The same small guests as in `guests`, with every block compiled before it is first executed.

use bulkhead_hypervisor::Hypervisor;

#[path = "../guests/code.rs"]
mod code;
#[path = "../guests/cross.rs"]
mod cross;
#[path = "../guests/event.rs"]
mod event;
#[path = "../guests/memory.rs"]
mod memory;
#[path = "../guests/mode.rs"]
mod mode;
#[path = "../guests/stage.rs"]
mod stage;
#[path = "../guests/startup.rs"]
mod startup;
#[path = "../guests/wire.rs"]
mod wire;

/// Compiles at once.
fn engine() -> Box<dyn Hypervisor> {
    Box::new(bulkhead_soft_cpu::Compiling::after(2, 0).unwrap())
}
