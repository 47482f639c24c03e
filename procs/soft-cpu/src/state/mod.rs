//! What a processor remembers between two instructions, topic by topic.

mod control;
mod convert;
mod flags;
mod fx;
mod msr;
mod registers;
mod segment;

pub use control::{Control, DebugRegisters, Table, cr0, cr4, efer};
pub use flags::{Condition, Flags, rflags};
pub use fx::Fx;
pub use msr::Msrs;
pub use registers::{Reg, Registers};
pub use segment::{Segment, SegmentName};
