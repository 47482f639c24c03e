//! What the supervisor changes about its own process before anything else.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Prepares this process: it may outlive the command that started it (the session says whether it
/// does), it needs descriptors for every queue, and what it makes is for its user alone.
pub fn prepare() -> io::Result<()> {
    prctl::set_pdeathsig(None)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}
