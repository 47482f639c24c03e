//! From text to spec: the options, and the TOML file that has the same names.

mod chain;
mod cpu;
pub mod disk;
pub mod export;
mod file;
mod gdb;
pub mod keyed;
mod number;
mod output;
pub mod server;
mod size;
mod spec;

pub use cpu::software;
pub use keyed::nearest;
pub use number::seconds;
pub use output::{Console, Serial};
pub use size::{bytes, small_bytes};
pub use spec::{RunPlan, storage, vm};

#[cfg(test)]
mod tests;
