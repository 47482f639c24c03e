//! Supervisor ↔ launcher.
//!
//! The launcher holds the helpers' binaries by descriptor and starts what it is told to start, with
//! CLONE_PARENT, so that the supervisor is the parent and reaps.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::class::ProcessClass;

/// One layer of a jail, as `--allow-weaker-sandbox` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// User namespace.
    UserNamespace,
    /// Pid namespace.
    PidNamespace,
    /// Mount namespace and empty root.
    MountNamespace,
    /// Network namespace.
    NetNamespace,
    /// IPC namespace.
    IpcNamespace,
    /// UTS namespace.
    UtsNamespace,
    /// Cgroup namespace.
    CgroupNamespace,
    /// A uid of its own (conditional).
    OwnUid,
    /// Cgroup limits (conditional).
    Cgroup,
    /// All capabilities dropped, bounding set empty.
    Capabilities,
    /// `no_new_privs`.
    NoNewPrivileges,
    /// Resource limits.
    Limits,
    /// Landlock deny-all.
    Landlock,
    /// The seccomp filter.
    Seccomp,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Self; 14] = [
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::NetNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupNamespace,
        Self::OwnUid,
        Self::Cgroup,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Limits,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// The name users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::NetNamespace => "net-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::OwnUid => "own-uid",
            Self::Cgroup => "cgroup",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Limits => "limits",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }

    /// The layer of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }
}

/// What became of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerState {
    /// In force.
    Enforced,
    /// Conditional on this host, and the condition does not hold.
    NotApplicable(String),
    /// Missing, which the user has allowed by name.
    Weakened(String),
}

/// To the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherCommand {
    /// First message: the binaries it may start, one descriptor each, in this order, followed by one
    /// directory descriptor per cgroup hierarchy in which the VM has a folder.
    Plan {
        /// Classes, in the order of their descriptors.
        binaries: Vec<ProcessClass>,
        /// Cgroup folders that follow.
        cgroups: Vec<CgroupFolder>,
        /// Layers that may be missing.
        weaker: Vec<Layer>,
    },
    /// Start a child. Descriptors: its channel, the write end of its log pipe.
    Start {
        /// Number by which the answer names it.
        ticket: u64,
        /// What it is.
        class: ProcessClass,
        /// Which one of its class, for names of threads and cgroups (`d0`).
        id: String,
        /// Ordinal of the VM's processes, from which an own uid is derived.
        ordinal: u32,
        /// Arguments after the class name (core takes the number of vCPUs).
        arguments: Vec<String>,
        /// CPUs it may run on; empty: as the launcher.
        cpus: Vec<u32>,
    },
    /// Remove the cgroup folders of a child that was reaped.
    Forget {
        /// The ticket it was started with.
        ticket: u64,
    },
    /// Exit 0.
    Stop,
}

/// One hierarchy's folder of this VM, passed by descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupFolder {
    /// Version 1 or 2 of the interface.
    pub version: u8,
    /// Controllers this hierarchy has (`memory`, `pids`, `cpu`).
    pub controllers: Vec<String>,
}

/// From the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherEvent {
    /// The launcher is sealed and has its plan.
    Ready,
    /// A child runs. Descriptor: its pidfd.
    Started {
        /// Ticket of the command.
        ticket: u64,
        /// Pid as the supervisor sees it.
        pid: i32,
        /// Host uid it runs as.
        uid: u32,
        /// Every layer of its jail that the launcher puts in force (not Landlock and seccomp, which
        /// the child reports).
        layers: Vec<(Layer, LayerState)>,
    },
    /// A child could not be started. Descriptor, if `pid` is not 0: its pidfd.
    Failed {
        /// Ticket of the command.
        ticket: u64,
        /// Pid of the process that did not get as far as its exec: it ends by itself and is reaped
        /// like any other. 0: none came about.
        pid: i32,
        /// The layer that is missing, if that is why.
        layer: Option<Layer>,
        /// Why, in one sentence.
        reason: String,
    },
}

impl Message for LauncherCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan { binaries, cgroups, .. } => binaries.len() + cgroups.len(),
            Self::Start { .. } => 2,
            Self::Forget { .. } | Self::Stop => 0,
        }
    }
}

impl Message for LauncherEvent {
    fn fd_count(&self) -> usize {
        match self {
            Self::Started { .. } => 1,
            Self::Failed { pid, .. } => usize::from(*pid != 0),
            Self::Ready => 0,
        }
    }
}
