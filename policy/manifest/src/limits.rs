//! Resource limits and control group budgets.

use serde::Deserialize;

/// A resource of `setrlimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Core files.
    Core,
    /// Heap and private writable mappings, in bytes.
    Data,
    /// Length of a file it may write, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// Message queues, in bytes.
    Msgqueue,
    /// Descriptors: the number past the highest.
    Nofile,
    /// Threads of its uid.
    Nproc,
    /// Real-time priority.
    Rtprio,
    /// Queued signals.
    Sigpending,
    /// Stack of the first thread, in bytes.
    Stack,
}

impl Resource {
    /// Its name in profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rtprio => "rtprio",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }

    /// Its name in `/proc/PID/limits`.
    pub const fn proc_name(self) -> &'static str {
        match self {
            Self::Core => "Max core file size",
            Self::Data => "Max data size",
            Self::Fsize => "Max file size",
            Self::Memlock => "Max locked memory",
            Self::Msgqueue => "Max msgqueue size",
            Self::Nofile => "Max open files",
            Self::Nproc => "Max processes",
            Self::Rtprio => "Max realtime priority",
            Self::Sigpending => "Max pending signals",
            Self::Stack => "Max stack size",
        }
    }
}

/// One limit, soft and hard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimit {
    /// Of what.
    pub resource: Resource,
    /// How much.
    pub value: u64,
    /// Why that much.
    pub reason: String,
}

/// Limits of a process's control group; what is absent is not limited there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupBudget {
    /// Tasks.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Bytes of memory that it is charged for.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Percent of one CPU.
    #[serde(default)]
    pub cpu_percent: Option<u32>,
    /// Why these, and why not the others.
    #[serde(default)]
    pub reason: String,
}
