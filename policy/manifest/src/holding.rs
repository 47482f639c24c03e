//! Descriptors that a process may hold.

use serde::Deserialize;

use crate::Rights;

/// What a descriptor is, as far as `/proc/PID/fdinfo` and `/proc/PID/fd` can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdKind {
    /// `/dev/null`.
    Null,
    /// A pipe.
    Pipe,
    /// A socket, whether pair, connection or listener.
    Socket,
    /// An eventfd.
    Eventfd,
    /// An epoll instance.
    Epoll,
    /// A timerfd.
    Timerfd,
    /// A signalfd.
    Signalfd,
    /// A pidfd.
    Pidfd,
    /// A memory object.
    Memfd,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A character device other than `/dev/null`.
    CharacterDevice,
    /// `/dev/kvm`.
    Kvm,
    /// A KVM VM, vCPU or device.
    KvmObject,
}

/// When a descriptor comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// It is there when the process is attested: passed through exec, or made before the seal.
    Start,
    /// It comes with the plan.
    Plan,
    /// It comes later, or the process makes it.
    Running,
}

/// Descriptors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// What they are.
    pub kind: FdKind,
    /// What may be done with them.
    pub rights: Rights,
    /// From when on.
    pub when: When,
    /// Fewest of them, from then on.
    #[serde(default)]
    pub min: u32,
    /// Most of them.
    pub max: u32,
    /// What they are for.
    pub reason: String,
}

/// Fewest and most descriptors of a kind and right at a time of a process's life.
pub fn range(holdings: &[Holding], kind: FdKind, rights: Rights, at: When) -> (u32, u32) {
    let mut range = (0, 0);
    for holding in holdings {
        if holding.kind == kind && holding.rights == rights && holding.when <= at {
            range.0 += holding.min;
            range.1 += holding.max;
        }
    }
    range
}
