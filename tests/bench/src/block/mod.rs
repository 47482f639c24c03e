//! The block layer's figures, each beside the tool that people use for it: `make bench-block`.
//!
//! What serves is always the real thing: sealed processes behind a socket, or the command as a user
//! types it. A line is one comparison; who is compared in it takes turns.

mod allocated;
mod allocating;
mod certificates;
mod command;
mod convert;
mod direct;
mod memory;
mod nbd;
mod snapshot;
mod table;

use anyhow::Result;

use crate::Arguments;

/// Measures and prints everything.
pub fn run(arguments: &Arguments) -> Result<()> {
    table::header();
    allocating::run(arguments)?;
    allocated::run(arguments)?;
    direct::run(arguments)?;
    convert::run(arguments)?;
    nbd::run(arguments)?;
    snapshot::run(arguments)?;
    memory::run(arguments)
}
