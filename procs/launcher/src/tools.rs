//! What the launcher takes hold of before it is sealed.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::Context;
use bulkhead_channel::Channel;
use bulkhead_jail::Maps;
use bulkhead_protocol::start::CHANNEL_FD;
use bulkhead_sys::capability::Capabilities;
use bulkhead_sys::{identity, inherited};

/// Descriptors and numbers for all later births.
#[derive(Debug)]
pub struct Tools {
    /// The channel to the supervisor.
    pub channel: Channel,
    /// `/dev/null`, descriptors 0 and 1 of every child.
    pub null: OwnedFd,
    /// Where the id maps of children are written.
    pub maps: Maps,
    /// The launcher's pid, from which uids are derived.
    pub pid: u32,
    /// Capabilities it was started with.
    held: Capabilities,
}

impl Tools {
    /// Opens what is needed, and gives up the groups of root's login, which children would inherit.
    pub fn gather() -> anyhow::Result<Self> {
        let channel = inherited::take(CHANNEL_FD).context("descriptor 3 must be its channel")?;
        let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
        let maps = Maps::open().context("/proc")?;
        if identity::is_root() {
            // In a user namespace that denies setgroups there is nothing to give up either.
            let _ = nix::unistd::setgroups(&[]);
        }
        Ok(Self {
            channel: Channel::from_fd(channel),
            null: null.into(),
            maps,
            pid: std::process::id(),
            held: Capabilities::held().context("capabilities")?,
        })
    }

    /// Loses all capabilities but those for the id maps of children. Everything else a child does in
    /// its own user namespace, where it has them all.
    pub fn keep_id_maps(&self) -> anyhow::Result<()> {
        let maps = [Capabilities::SET_UID, Capabilities::SET_GID, Capabilities::SET_FCAP];
        let kept = self.held.intersection(Capabilities::union(&maps));
        kept.keep().context("capabilities")
    }
}
