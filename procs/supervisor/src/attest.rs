//! Looking at a child from outside before anything is handed over.
//!
//! Called by the live instance for every process, between its seal and its plan. The kernel is asked,
//! through `/proc`, not the process; only Landlock, which `/proc` does not show, is the process's own
//! report. What is found must be what the manifest says, or be missing by a layer that the user allowed
//! to be missing, or that this host cannot have.
//!
//! Absent on purpose: resource limits, mappings and the filters' instructions. `bulkhead audit`
//! compares those at leisure; here every microsecond is a pause of the guest.

mod descriptors;
mod namespaces;
mod status;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use bulkhead_protocol::VERSION;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{Layer, LayerState};
use bulkhead_protocol::start::SealReport;

use namespaces::Namespaces;

use crate::heartbeat::Load;
use crate::open::{find, names, read_text};

/// Inodes by which descriptors are known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The process's end of its channel.
    pub channel: u64,
    /// The writing end of its log pipe.
    pub log: u64,
}

/// What a process must be.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Its class.
    pub class: ProcessClass,
    /// What it was given.
    pub given: Given,
    /// What the launcher says of its jail.
    pub layers: &'a [(Layer, LayerState)],
    /// Layers that the user allowed to be missing.
    pub weaker: &'a [Layer],
}

/// What a process is not.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The host lacks a layer, and the user did not allow that.
    #[error("{}: {why}", .layer.name())]
    Missing {
        /// The layer.
        layer: Layer,
        /// What the host says.
        why: String,
    },
    /// It deviates from its manifest.
    #[error("{0}")]
    Deviation(String),
    /// It cannot be looked at.
    #[error("/proc: {0}")]
    Host(#[from] io::Error),
}

/// `/proc`, and who we are ourselves.
#[derive(Debug)]
pub struct Proc {
    root: OwnedFd,
    own: Namespaces,
    /// Filters that were in force before ours: a container's, which every child has as well.
    inherited: usize,
    null: u64,
    anonymous: u64,
}

impl Proc {
    /// Opens `/proc` and looks at this process. To be called before the seal.
    pub fn open() -> io::Result<Self> {
        let root = find(Path::new("/proc"))?.into_fd();
        // Not by `self`, which is a link.
        let pid = std::process::id() as i32;
        let own = namespaces::of(&root, pid)?;
        let inherited = status::filters(&read_text(&root, &format!("{pid}/status"))?);
        Ok(Self {
            own,
            inherited,
            null: nix::sys::stat::stat("/dev/null")?.st_ino,
            anonymous: anonymous_inode()?,
            root,
        })
    }

    /// Compares process `pid` with what it must be.
    pub fn attest(
        &self,
        pid: i32,
        report: &SealReport,
        expected: &Expected<'_>,
    ) -> Result<(), Fault> {
        check_layers(expected)?;
        check_report(report, expected)?;
        let text = read_text(&self.root, &format!("{pid}/status"))?;
        let filters =
            self.inherited + filters_of(expected.class) + filters_of(ProcessClass::Launcher);
        status::check(&text, filters, expected)?;
        namespaces::check(&self.root, pid, &self.own, expected)?;
        let known = descriptors::Known {
            null: self.null,
            anonymous: self.anonymous,
            given: expected.given,
        };
        descriptors::check(&self.root, pid, &known, made_before_seal(expected.class))
    }

    /// Whether a thread of the process wants the CPU, and how much it had; `None` if that cannot be
    /// seen.
    pub fn load(&self, pid: i32) -> Option<Load> {
        let stat = read_text(&self.root, &format!("{pid}/stat")).ok()?;
        let (_, used) = status::state_and_ticks(&stat)?;
        let threads = names(&self.root, &format!("{pid}/task")).ok()?;
        let runs = |thread: &String| {
            let stat = read_text(&self.root, &format!("{pid}/task/{thread}/stat"));
            stat.is_ok_and(|stat| matches!(status::state_and_ticks(&stat), Some(('R', _))))
        };
        Some(Load {
            runnable: threads.iter().any(runs),
            // USER_HZ is 100 on every architecture that we run on.
            used: Duration::from_millis(used * 10),
        })
    }
}

/// Filters that a process of this class puts on itself; its launcher's come on top.
fn filters_of(class: ProcessClass) -> usize {
    bulkhead_seccomp::program(class.name()).map_or(0, |program| program.filters().count())
}

include!(concat!(env!("OUT_DIR"), "/declared.rs"));

/// Descriptors that a class may make before its seal, beside the four it is born with.
fn made_before_seal(class: ProcessClass) -> u32 {
    let declared = MADE_BEFORE_SEAL.iter().find(|(name, _)| *name == class.name());
    declared.map_or(0, |(_, made)| *made)
}

/// eventfds, epoll instances and timers share one inode, which tells them from files, pipes and
/// sockets.
fn anonymous_inode() -> io::Result<u64> {
    let bell = bulkhead_sys::eventfd::Doorbell::new()?;
    Ok(nix::sys::stat::fstat(&bell)?.st_ino)
}

fn check_layers(expected: &Expected<'_>) -> Result<(), Fault> {
    for (layer, state) in expected.layers {
        match state {
            LayerState::Weakened(why) if !expected.weaker.contains(layer) => {
                return Err(Fault::Missing { layer: *layer, why: why.clone() });
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_report(report: &SealReport, expected: &Expected<'_>) -> Result<(), Fault> {
    if report.version != VERSION {
        let what = format!("it is of version {}, we are of {VERSION}", report.version);
        return Err(Fault::Deviation(what));
    }
    match (report.landlock_abi, report.probe_refused) {
        (0, _) if expected.weaker.contains(&Layer::Landlock) => Ok(()),
        (0, _) => {
            let why = "this kernel has no Landlock".to_owned();
            Err(Fault::Missing { layer: Layer::Landlock, why })
        }
        (_, true) => Ok(()),
        (_, false) => Err(Fault::Deviation("its Landlock denies nothing".into())),
    }
}

impl Expected<'_> {
    /// Whether a layer is in force according to the launcher; one that it does not mention is.
    fn has(&self, layer: Layer) -> bool {
        let state = self.layers.iter().find(|(name, _)| *name == layer);
        state.is_none_or(|(_, state)| *state == LayerState::Enforced)
    }
}

#[cfg(test)]
mod tests;
