//! What the supervisor changes about its own process before anything else.

use std::io;

use bulkhead_protocol::start::CHANNEL_FD;
use bulkhead_sys::inherited;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Prepares this process: it keeps nothing that its user's shell left open, it may outlive the
/// command that started it (the session says whether it does), and it needs descriptors for every
/// queue.
pub fn prepare() -> io::Result<()> {
    // A kernel without close_range (before 5.9) is older than what the jail needs.
    inherited::close_others(CHANNEL_FD + 1)?;
    prctl::set_pdeathsig(None)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}
