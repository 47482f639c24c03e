//! Whose process a child is.
//!
//! Inside its user namespace a child is uid 0 and nobody else exists. Outside, root's children get a
//! uid of their own each, from a range that no distribution hands out; an ordinary user's children
//! stay that user's.
//!
//! Inside it is 0 rather than anything else because `/proc/PID` of a process that is not dumpable
//! belongs to whoever is 0 in its namespace: so the supervisor can see its children's descriptors.
//! Being 0 gives nothing: the secure bits are locked and the bounding set is empty.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::identity;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::beneath;
use crate::layer::LayerState;

/// First uid of the range; `nobody`, systemd's dynamic users and containers all stay below.
const FIRST: u32 = 0x7000_0000;

/// Children of one launcher that get a uid each.
const PER_LAUNCHER: u32 = 64;

/// Launchers with a range of their own: as many as there are pids (`PID_MAX_LIMIT`, 2²²).
const LAUNCHERS: u32 = 1 << 22;

/// The uid and gid of child number `ordinal` of the launcher `launcher_pid`.
pub fn own_uid(launcher_pid: u32, ordinal: u32) -> u32 {
    FIRST + (launcher_pid % LAUNCHERS) * PER_LAUNCHER + ordinal % PER_LAUNCHER
}

/// The outcome: which uid the child has outside, and whether it is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Uid as the host sees it.
    pub uid: u32,
    /// State of [`crate::Layer::OwnUid`].
    pub state: LayerState,
}

/// Where maps are written, and by whom.
#[derive(Debug)]
pub struct Maps {
    proc: OwnedFd,
    uid: u32,
    gid: u32,
}

impl Maps {
    /// Opens `/proc`. For the launcher, before it is sealed.
    pub fn open() -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty())?;
        Ok(Self { proc, uid: identity::uid(), gid: identity::gid() })
    }

    /// Whether the launcher is root of its own user namespace.
    pub(crate) fn by_root(&self) -> bool {
        self.uid == 0
    }

    /// The launcher's own uid.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Writes the maps of a child that waits in a fresh user namespace.
    pub(crate) fn write(&self, pid: i32, wanted: u32) -> io::Result<Identity> {
        // Without this the kernel refuses an ordinary user's group map. Root has given up its other
        // groups before; an ordinary user cannot, and its children keep them without a name.
        self.file(pid, "setgroups", "deny")?;
        let why = if self.by_root() {
            match self.pair(pid, wanted, wanted) {
                Ok(()) => return Ok(Identity { uid: wanted, state: LayerState::Enforced }),
                Err(error) => format!("this host maps no uid {wanted}: {error}"),
            }
        } else {
            "only root can give its processes other uids".to_owned()
        };
        // A map that was refused may be written again.
        self.pair(pid, self.uid, self.gid)?;
        Ok(Identity { uid: self.uid, state: LayerState::NotApplicable(why) })
    }

    fn pair(&self, pid: i32, uid: u32, gid: u32) -> io::Result<()> {
        self.file(pid, "uid_map", &format!("0 {uid} 1"))?;
        self.file(pid, "gid_map", &format!("0 {gid} 1"))
    }

    fn file(&self, pid: i32, name: &str, text: &str) -> io::Result<()> {
        beneath::write(self.proc.as_fd(), &format!("{pid}/{name}"), text)
    }
}
