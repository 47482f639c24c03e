//! What a process in its real jail can reach: nothing but what its profile says.
//!
//! The tests start the real launcher and have it put a probe, in place of a helper, into the jail and
//! behind the filter of each process class. [`Warden`] stands in for the supervisor; the probe
//! (`src/bin/probe`) tries what an attacker would, one attempt in each fresh process; the tests judge
//! by what came of it, not by what a call returned.
#![forbid(unsafe_code)]

pub mod attempt;
pub mod binaries;
pub mod cgroups;
pub mod procfs;
pub mod verdict;
mod warden;

use bulkhead_protocol::class::ProcessClass;
pub use warden::{Ending, Inmate, User, Warden};

/// The classes that a launcher starts.
pub fn jailed() -> impl Iterator<Item = ProcessClass> {
    let free = [ProcessClass::Supervisor, ProcessClass::Launcher];
    ProcessClass::ALL.into_iter().filter(move |class| !free.contains(class))
}
