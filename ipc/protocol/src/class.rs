//! The classes of processes: one name for binary, profile, role and log lines.

use serde::{Deserialize, Serialize};

/// A class of process. The name is the same everywhere: `policy/profiles/NAME.toml`, the binary
/// `bulkhead-NAME`, the `role` of `bulkhead ps`. Two pairs share a binary: `soft-cpu-jit` is a `soft-cpu`
/// that holds code memory, which no other process may; `block-tool` is a `block-layer` that serves nobody, but
/// does one command of `bulkhead-img`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessClass {
    /// Holds every long-lived descriptor; restarts, fences, tears down.
    Supervisor,
    /// Starts children in their jails.
    Launcher,
    /// Serves the API socket.
    Control,
    /// vCPUs and guest memory.
    Core,
    /// Executes the guest where there is no KVM.
    SoftCpu,
    /// The same, and compiles it.
    SoftCpuJit,
    /// virtio-blk.
    VhostBlk,
    /// virtio-console.
    VhostConsole,
    /// virtio-rng.
    VhostRng,
    /// A debugger's socket.
    Gdb,
    /// One disk graph.
    BlockLayer,
    /// One command of `bulkhead-img`.
    BlockTool,
    /// An NBD export.
    NbdServer,
    /// Keeps a detached VM's console output.
    Sink,
}

impl ProcessClass {
    /// Every class.
    pub const ALL: [Self; 14] = [
        Self::Supervisor,
        Self::Launcher,
        Self::Control,
        Self::Core,
        Self::SoftCpu,
        Self::SoftCpuJit,
        Self::VhostBlk,
        Self::VhostConsole,
        Self::VhostRng,
        Self::Gdb,
        Self::BlockLayer,
        Self::BlockTool,
        Self::NbdServer,
        Self::Sink,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Launcher => "launcher",
            Self::Control => "control",
            Self::Core => "core",
            Self::SoftCpu => "soft-cpu",
            Self::SoftCpuJit => "soft-cpu-jit",
            Self::VhostBlk => "vhost-blk",
            Self::VhostConsole => "vhost-console",
            Self::VhostRng => "vhost-rng",
            Self::Gdb => "gdb",
            Self::BlockLayer => "block-layer",
            Self::BlockTool => "block-tool",
            Self::NbdServer => "nbd-server",
            Self::Sink => "sink",
        }
    }

    /// Name of its executable.
    pub fn binary(self) -> String {
        let name = match self {
            Self::SoftCpuJit => Self::SoftCpu.name(),
            Self::BlockTool => Self::BlockLayer.name(),
            other => other.name(),
        };
        format!("bulkhead-{name}")
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl std::fmt::Display for ProcessClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
