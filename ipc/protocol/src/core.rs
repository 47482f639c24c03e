//! Supervisor ↔ core.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::crash::Crash;

/// Kind of a virtio device behind a vhost-user backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// virtio-blk (virtio 1.2 section 5.2), device id 2.
    Blk,
    /// virtio-console (5.3), device id 3.
    Console,
    /// virtio-rng (5.4), device id 4.
    Rng,
}

/// Who serves a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendKind {
    /// A device process of ours: it is restarted, and its in-flight table is passed on.
    Own,
    /// Another program: its death means NEEDS_RESET, never a guessed resubmit.
    Foreign,
}

/// One virtio device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Name for messages (`d0`, `console`, `rng`).
    pub id: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Who serves it.
    pub backend: BackendKind,
    /// Queues, 1 to 16.
    pub queues: u16,
    /// Greatest size of a queue, a power of two, 2 to 1024.
    pub queue_size: u16,
}

impl DevicePlan {
    /// Descriptors of one device: kick and call of each queue in turn, then the in-flight memfd if
    /// the backend is our own.
    pub fn fd_count(&self) -> usize {
        usize::from(self.queues) * 2 + usize::from(self.backend == BackendKind::Own)
    }
}

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// The host's processor, by `/dev/kvm`.
    Kvm,
    /// A process of ours, in software.
    Soft,
}

impl EngineKind {
    /// Descriptors of an engine: `/dev/kvm`; or the control channel to soft-cpu and the log of written
    /// pages, then for each vCPU the channel of its turns and the eventfd of its kicks.
    pub fn fd_count(self, cpus: u32) -> usize {
        match self {
            Self::Kvm => 1,
            Self::Soft => 2 + 2 * cpus as usize,
        }
    }
}

/// The VM as core needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorePlan {
    /// vCPUs, 1 to 16: as many as core's first argument said.
    pub cpus: u32,
    /// Bytes of guest memory; the memfd has as many.
    pub memory: u64,
    /// What executes the guest.
    pub engine: EngineKind,
    /// Kernel command line.
    pub append: String,
    /// The first port of a debug-exit device, if there is one.
    pub debug_exit: Option<u16>,
    /// An initial RAM disk is among the descriptors.
    pub initrd: bool,
    /// The vCPUs run only when a debugger lets them.
    pub waits_for_debugger: bool,
    /// Devices in PCI slot order, beginning with slot 1. Their descriptors come by one
    /// [`CoreCommand::Device`] each, in this order, before [`CoreCommand::Run`].
    pub devices: Vec<DevicePlan>,
}

/// To core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoreCommand {
    /// First message. Descriptors: the engine's ([`EngineKind::fd_count`]), the RAM memfd, the serial
    /// stream (socket), the kernel, and the initial RAM disk if there is one.
    Plan(Box<CorePlan>),
    /// The descriptors of device number `device`: see [`DevicePlan::fd_count`].
    Device {
        /// Index into the plan's devices.
        device: u16,
        /// As [`DevicePlan::fd_count`] says.
        fds: u16,
    },
    /// A fresh connection to a backend. Descriptors: a connected vhost-user socket; then the two ends
    /// of a fresh stream pair for the backend's own requests (configuration changes): core keeps the
    /// first and passes the second to the backend, or closes both if the backend makes no requests.
    /// The first connection of each device comes before [`CoreCommand::Run`].
    DeviceConnected {
        /// Index into the plan's devices.
        device: u16,
    },
    /// The backend's process is dead and reaped: drop the connection, keep the guest waiting.
    DeviceLost {
        /// Index into the plan's devices.
        device: u16,
    },
    /// The device will not come back soon: tell the guest by NEEDS_RESET.
    DeviceDegraded {
        /// Index into the plan's devices.
        device: u16,
    },
    /// A fresh channel to a gdb process, whose predecessor is gone.
    Debugger,
    /// Everything was handed over: start the vCPUs as soon as the devices have shaken hands.
    Run,
    /// Stop the vCPUs; answered by `Paused`.
    Pause,
    /// Let them run; answered by `Resumed`.
    Resume,
    /// Press the ACPI power button.
    PowerButton,
    /// Reset the machine as its reset button would; answered by `ResetRequested`.
    Reset,
    /// Boot again. Descriptors: the kernel, and the initial RAM disk if there is one.
    Boot {
        /// As in the plan.
        initrd: bool,
    },
}

/// From core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoreEvent {
    /// Kernel and initrd are refused, or the host's KVM lacks something: the VM cannot start.
    Refused {
        /// The option at fault (`--kernel`, `--memory`).
        option: String,
        /// What is wrong, in one sentence.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// vCPUs were started.
    Running,
    /// The guest's first port write was seen.
    GuestStarted,
    /// vCPUs are stopped.
    Paused,
    /// vCPUs run again.
    Resumed,
    /// A device finished its handshake (again).
    DeviceUp {
        /// Index into the plan's devices.
        device: u16,
    },
    /// A backend broke the protocol, missed a deadline or hung up.
    DeviceFault {
        /// Index into the plan's devices.
        device: u16,
        /// What it did.
        reason: String,
    },
    /// NEEDS_RESET was raised.
    NeedsReset {
        /// Index into the plan's devices.
        device: u16,
    },
    /// The guest (or a `Reset` command) reset the machine: vCPUs are stopped, devices reset. The
    /// supervisor answers with `Boot`, or ends the VM.
    ResetRequested,
    /// The guest powered itself off: vCPUs are stopped.
    PoweredOff,
    /// The guest wrote to the debug-exit port: vCPUs are stopped.
    DebugExit {
        /// What it wrote.
        result: u32,
    },
    /// The guest crashed: vCPUs are stopped.
    Crashed(Crash),
}

impl Message for CoreCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan(plan) => plan.engine.fd_count(plan.cpus) + 3 + usize::from(plan.initrd),
            Self::Device { fds, .. } => usize::from(*fds),
            Self::DeviceConnected { .. } => 3,
            Self::Debugger => 1,
            Self::Boot { initrd } => 1 + usize::from(*initrd),
            _ => 0,
        }
    }
}

impl Message for CoreEvent {}
