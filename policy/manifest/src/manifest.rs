//! A profile as a type.

use serde::Deserialize;

use crate::holding::Holding;
use crate::limits::{CgroupBudget, ResourceLimit};
use crate::rule::{Allowed, Answered};

/// Why a profile is none.
#[derive(Debug, thiserror::Error)]
#[error("profile {profile}: {what}")]
pub struct ManifestError {
    /// The profile.
    pub profile: String,
    /// What is wrong with it, with the line where that is known.
    pub what: String,
}

/// A namespace that a process has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// Users and capabilities.
    User,
    /// Processes: it is number 1 of its own.
    Pid,
    /// Mounts: an empty, read-only root.
    Mount,
    /// Network: no interface that is up.
    Net,
    /// System V and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroups.
    Cgroup,
}

impl Namespace {
    /// All seven.
    pub const ALL: [Self; 7] =
        [Self::User, Self::Pid, Self::Mount, Self::Net, Self::Ipc, Self::Uts, Self::Cgroup];

    /// Its name in `/proc/PID/ns`.
    pub const fn proc_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
        }
    }
}

/// What becomes of a process's capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capabilities {
    /// All five sets are empty.
    None,
    /// Those of the user who started it: none, unless that is root.
    AsStarted,
}

/// What Landlock denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landlock {
    /// Everything that this kernel can deny.
    DenyAll,
    /// Nothing: the process opens or mounts itself.
    None,
}

/// What may be done with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rights {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Both.
    ReadWrite,
}

impl Rights {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "read-write",
        }
    }
}

/// How much of the guest's memory a process maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Not a byte.
    None,
    /// What core granted it.
    Granted,
    /// All.
    All,
}

/// A process's mapping of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestMemory {
    /// How much of it.
    pub extent: Extent,
    /// What for; absent where nothing is mapped.
    pub rights: Option<Rights>,
}

/// Memory for code that is made at run time: mapped before the seal, once for writing and once for
/// execution.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeMemory {
    /// Most of them.
    pub most: usize,
    /// Why.
    pub reason: String,
}

/// What the death of a process means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeath {
    /// A successor is started by the rules of the supervisor's restart module.
    Successor,
    /// The instance ends.
    EndInstance,
    /// It is a thread of another class: that class decides.
    AsProcess,
}

/// Restart policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// What its death means.
    pub on_death: OnDeath,
    /// Why.
    pub reason: String,
}

/// All that a process of a class may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the class, and of the file.
    pub class: String,
    /// Its job, in one sentence.
    pub job: String,
    /// Why it allows more system calls than its budget; absent unless it does.
    #[serde(default)]
    pub over_budget: Option<String>,
    /// Namespaces of its own.
    pub namespaces: Vec<Namespace>,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Its Landlock domain.
    pub landlock: Landlock,
    /// Why a namespace is shared, a capability kept or Landlock absent; absent where none is.
    #[serde(default)]
    pub weaker_because: Option<String>,
    /// Guest memory it maps.
    pub guest_memory: GuestMemory,
    /// Code memory; absent where nothing but the program's text may be executed.
    #[serde(default)]
    pub code_memory: Option<CodeMemory>,
    /// Classes it may block on.
    pub waits_for: Vec<String>,
    /// Classes that it starts, to whose processes its own filter is handed down: a filter survives
    /// fork and exec, so it has to let through whatever a child may do.
    #[serde(default)]
    pub passes_on: Vec<String>,
    /// Restart policy.
    pub restart: Restart,
    /// Resource limits.
    #[serde(default)]
    pub limit: Vec<ResourceLimit>,
    /// Limits of its control group.
    #[serde(default)]
    pub cgroup: CgroupBudget,
    /// Descriptors it may hold.
    #[serde(default)]
    pub fd: Vec<Holding>,
    /// System calls it may make.
    pub syscall: Vec<Allowed>,
    /// System calls that are answered with an error instead of death.
    #[serde(default)]
    pub errno: Vec<Answered>,
}

impl Manifest {
    /// Reads a profile and holds it against the [`crate::law`].
    pub fn parse(profile: &str, text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)
            .map_err(|error| ManifestError { profile: profile.into(), what: error.to_string() })?;
        if manifest.class != profile {
            let what = format!("says that it is {}", manifest.class);
            return Err(ManifestError { profile: profile.into(), what });
        }
        match crate::law::breaches(&manifest).as_slice() {
            [] => Ok(manifest),
            breaches => Err(ManifestError { profile: profile.into(), what: breaches.join("; ") }),
        }
    }

    /// The system calls of the process's own steady state: what its budget counts.
    pub fn own_syscalls(&self) -> impl Iterator<Item = &Allowed> {
        self.syscall.iter().filter(|allowed| !allowed.for_children)
    }
}
