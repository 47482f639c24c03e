//! `bulkhead run` and `bulkhead storage`: between the user's terminal and a supervisor.
//!
//! ```text
//! options ─► spec ─► supervisor started ─► session ─┬─► Refused: exit 2
//!                                                   ├─► Plan (dry run): printed, exit 0
//!                                                   ├─► Started, --detach: exit 0
//!                                                   └─► … Ended(reason): exit code of the reason
//! ```
//!
//! The instance lives as long as the session channel is open; a command that dies, by whatever
//! signal, closes it.

mod binaries;
mod lines;
mod outlet;
mod session;
mod signals;
mod start;
mod terminal;
mod trace;

pub use outlet::join_terminal;

use std::process::ExitCode;

use crate::cli::{RunOptions, StorageOptions};
use crate::options;

/// Runs a virtual machine.
pub fn vm(options: RunOptions) -> anyhow::Result<ExitCode> {
    session::run(options::vm(options, &crate::choice::auto)?)
}

/// Serves disks.
pub fn storage(options: StorageOptions) -> anyhow::Result<ExitCode> {
    session::run(options::storage(options)?)
}
