//! The same small guests as in `guests`, with every block compiled before it is first executed.

use bulkhead_hypervisor::Hypervisor;

#[path = "../guests/absent.rs"]
mod absent;
#[path = "../guests/code.rs"]
mod code;
#[path = "../guests/cross.rs"]
mod cross;
#[path = "../guests/debugger.rs"]
mod debugger;
#[path = "../guests/device.rs"]
mod device;
#[path = "../guests/dirty.rs"]
mod dirty;
#[path = "../guests/event.rs"]
mod event;
#[path = "../guests/flat.rs"]
mod flat;
#[path = "../guests/halfway.rs"]
mod halfway;
#[path = "../guests/level.rs"]
mod level;
#[path = "../guests/memory.rs"]
mod memory;
#[path = "../guests/mode.rs"]
mod mode;
#[path = "../guests/pcid.rs"]
mod pcid;
#[path = "../guests/rest.rs"]
mod rest;
#[path = "../guests/spin.rs"]
mod spin;
#[path = "../guests/split.rs"]
mod split;
#[path = "../guests/stage.rs"]
mod stage;
#[path = "../guests/startup.rs"]
mod startup;
#[path = "../guests/straight.rs"]
mod straight;
#[path = "../guests/trap.rs"]
mod trap;
#[path = "../guests/wire.rs"]
mod wire;

/// Compiles at once.
fn engine() -> Box<dyn Hypervisor> {
    Box::new(bulkhead_soft_cpu::Compiling::after(2, 0).unwrap())
}
