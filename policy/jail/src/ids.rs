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

use bulkhead_sys::identity;

use crate::layer::LayerState;
use crate::proc::Proc;

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
pub struct Identity {
    /// Uid as the host sees it.
    pub uid: u32,
    /// State of [`crate::Layer::OwnUid`].
    pub state: LayerState,
}

/// Writes the maps of a child that waits in a fresh user namespace.
pub fn map(proc: &Proc, pid: i32, wanted: u32) -> io::Result<Identity> {
    let (uid, gid) = (identity::uid(), identity::gid());
    // Without this the kernel refuses an ordinary user's group map. Root has given up its other
    // groups before; an ordinary user cannot, and keeps them without a name.
    proc.write(pid, "setgroups", "deny")?;
    let why = if uid == 0 {
        match write(proc, pid, wanted, wanted) {
            Ok(()) => {
                return Ok(Identity {
                    uid: wanted,
                    state: LayerState::Enforced,
                });
            }
            Err(error) => format!("this host maps no uid {wanted}: {error}"),
        }
    } else {
        "only root can give its processes other uids".to_owned()
    };
    write(proc, pid, uid, gid)?;
    Ok(Identity {
        uid,
        state: LayerState::NotApplicable(why),
    })
}

/// A map that was refused may be written again; one that was taken may not.
fn write(proc: &Proc, pid: i32, uid: u32, gid: u32) -> io::Result<()> {
    proc.write(pid, "uid_map", &format!("0 {uid} 1"))?;
    proc.write(pid, "gid_map", &format!("0 {gid} 1"))
}
