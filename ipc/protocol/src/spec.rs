//! What a user asks for, before anything of it is checked.
//!
//! The command builds it from options or a TOML file; the supervisor turns it into a plan. Sizes are
//! bytes here; how a person writes them (`512M`) is the command's matter.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::block_control::ErrorPolicy;
use crate::class::ProcessClass;
use crate::core::EngineKind;
use crate::filters::Filters;
use crate::launch::Layer;

/// Layers of a disk, from its top one down: each is two descriptors of two processes, and a step of many reads.
pub const MOST_LAYERS: usize = 32;

/// How image data is cached by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// O_DIRECT: past the host's page cache.
    None,
    /// Through the page cache; a guest's flush reaches the disk.
    #[default]
    Writeback,
    /// Through the page cache; flushes are not passed on.
    Unsafe,
}

/// Who makes transfers that go past the host's page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AioMode {
    /// Threads, one call each. A killed block layer is reaped at once.
    #[default]
    Threads,
    /// Linux AIO: many at a time for less work, and a killed block layer is reaped some 30 ms later.
    Native,
}

/// Image format. Always stated, never probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Bytes as they are.
    Raw(Part),
    /// LUKS, version 1.
    Luks {
        /// The file that holds its passphrase.
        secret: PathBuf,
    },
    /// qcow2. The names of other files in its header are never followed: they are given here.
    Qcow2 {
        /// The file that holds its passphrase, if it is encrypted.
        secret: Option<PathBuf>,
        /// Its external data file.
        data_file: Option<PathBuf>,
        /// Its backing files, the nearest first.
        backing: Vec<BackingSpec>,
    },
}

/// Which bytes of a file are the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// The first.
    pub offset: u64,
    /// How many; none: up to the file's end.
    pub size: Option<u64>,
}

/// Another program's NBD server, and an export of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// Its addresses, the first to be tried first.
    pub addresses: Vec<Address>,
    /// The export's name.
    pub export: String,
    /// Nothing without TLS.
    pub tls: Option<TlsClientSpec>,
    /// Milliseconds that requests wait for a server that is gone.
    pub reconnect_delay_ms: u32,
    /// Connections, if it serves several at once.
    pub connections: u16,
}

/// TLS with X.509 certificates, as a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsClientSpec {
    /// Folder of `ca-cert.pem` and, for servers that ask, `client-cert.pem` and `client-key.pem`.
    pub folder: PathBuf,
    /// Name that the server's certificate must have.
    pub hostname: String,
}

/// A backing file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackingSpec {
    /// File or block device.
    pub path: PathBuf,
    /// It is no file but lies on a server, and `path` is its URI.
    pub server: Option<ServerSpec>,
    /// What it is.
    pub format: BackingFormat,
}

/// Format of a backing file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackingFormat {
    /// Bytes as they are.
    Raw(Part),
    /// qcow2.
    Qcow2,
    /// LUKS, version 1.
    Luks {
        /// The file that holds its passphrase.
        secret: PathBuf,
    },
}

/// Where a disk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// An image that our own block layer serves.
    Image {
        /// File or block device.
        path: PathBuf,
        /// It is no file but lies on a server, and `path` is its URI.
        server: Option<ServerSpec>,
        /// Its format.
        format: Format,
        /// Host caching.
        cache: CacheMode,
        /// Whether the guest's discards reach the image.
        discard: bool,
        /// Refuse writes.
        read_only: bool,
    },
    /// Nothing: zeroes are read, and what is written is forgotten. To measure what is above it.
    Null {
        /// Bytes of the disk.
        size: u64,
        /// Refuse writes.
        read_only: bool,
    },
    /// Another program's vhost-user-blk backend.
    VhostUser {
        /// Its socket.
        socket: PathBuf,
    },
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Name within the VM (`d0`).
    pub id: String,
    /// Where its bytes are.
    pub source: DiskSource,
    /// Serial number the guest reads, at most 20 bytes.
    pub serial: String,
    /// Request queues, 1 to 16; 0: as many as vCPUs.
    pub queues: u16,
    /// CPU on which its processes run; `None`: the supervisor places them.
    pub cpu: Option<u32>,
    /// What stands in front of it.
    pub filters: Filters,
    /// A raw file that it is held against: QEMU's `blkverify`.
    pub verify: Option<PathBuf>,
    /// What is done about errors.
    pub on_error: OnError,
    /// Who makes its direct transfers.
    pub aio: AioMode,
}

/// What is done about errors of a disk's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnError {
    /// When a read fails.
    pub read: ErrorPolicy,
    /// When anything else fails.
    pub write: ErrorPolicy,
}

impl Default for OnError {
    /// QEMU's.
    fn default() -> Self {
        Self { read: ErrorPolicy::Report, write: ErrorPolicy::Enospc }
    }
}

/// What happens when the guest crashes (triple fault, internal error).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCrash {
    /// End the VM with the exit code for a crash.
    #[default]
    Stop,
    /// Reset the machine.
    Reset,
    /// Stop the vCPUs and wait for the user.
    Pause,
}

/// Where somebody may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A UNIX socket.
    Path(PathBuf),
    /// A TCP port of one address.
    Tcp(SocketAddr),
}

/// A debugger's way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GdbSpec {
    /// Where.
    pub listen: Address,
    /// The guest does not run before a debugger lets it.
    pub wait: bool,
}

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineSpec {
    /// The host's processor, by `/dev/kvm`.
    Kvm,
    /// A process of ours, in software.
    Soft(SoftSpec),
}

/// How a software engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftSpec {
    /// Whether it compiles the guest's code: only then has it executable memory of its own.
    pub jit: bool,
    /// Whether it writes what it executes to the session's trace stream.
    pub trace: bool,
}

impl SoftSpec {
    /// The class of process that does it.
    pub fn class(self) -> ProcessClass {
        if self.jit { ProcessClass::SoftCpuJit } else { ProcessClass::SoftCpu }
    }
}

impl EngineSpec {
    /// Which of the engines it is.
    pub fn kind(self) -> EngineKind {
        match self {
            Self::Kvm => EngineKind::Kvm,
            Self::Soft(_) => EngineKind::Soft,
        }
    }
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Name; also the name of its folder in the runtime directory.
    pub name: String,
    /// Kernel: PVH ELF, bzImage or multiboot.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub append: String,
    /// vCPUs, 1 to 16.
    pub cpus: u32,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Disks in PCI order.
    pub disks: Vec<DiskSpec>,
    /// Whether there is a virtio-console.
    pub console: bool,
    /// Whether there is a virtio-rng.
    pub rng: bool,
    /// A reset ends the VM instead of starting it again.
    pub no_reboot: bool,
    /// Reaction to a crash of the guest.
    pub on_crash: OnCrash,
    /// What executes the guest.
    pub engine: EngineSpec,
    /// The first port of a debug-exit device.
    pub debug_exit: Option<u16>,
    /// Where gdb may connect.
    pub gdb: Option<GdbSpec>,
    /// Disks that are exported while the guest uses them.
    pub nbd: Vec<NbdSpec>,
    /// Layers of the sandbox that may be missing.
    pub weaker: Vec<Layer>,
}

/// An export of a storage instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSpec {
    /// Which disk.
    pub disk: String,
    /// Path of the listening socket.
    pub socket: PathBuf,
    /// Request queues, 1 to 16.
    pub queues: u16,
    /// Refuse writes.
    pub read_only: bool,
}

/// An NBD export of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NbdSpec {
    /// By which it is removed; empty: one is chosen.
    pub id: String,
    /// Which disk.
    pub disk: String,
    /// Where clients connect.
    pub listen: Address,
    /// Name by which they ask for it.
    pub name: String,
    /// A line for people.
    pub description: String,
    /// Refuse writes.
    pub read_only: bool,
    /// A bitmap that clients may ask for.
    pub bitmap: Option<String>,
    /// Clients must use TLS.
    pub tls: Option<TlsSpec>,
}

/// TLS with X.509 certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSpec {
    /// Folder of `server-cert.pem`, `server-key.pem` and `ca-cert.pem`.
    pub folder: PathBuf,
    /// Clients must have a certificate of an authority in `ca-cert.pem`.
    pub verify: bool,
}

/// Disks served to foreign frontends, without a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSpec {
    /// Name; also the name of its folder in the runtime directory.
    pub name: String,
    /// Disks.
    pub disks: Vec<DiskSpec>,
    /// Exports over vhost-user.
    pub exports: Vec<ExportSpec>,
    /// Exports over NBD.
    pub nbd: Vec<NbdSpec>,
    /// Layers of the sandbox that may be missing.
    pub weaker: Vec<Layer>,
}

/// Either kind of instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spec {
    /// `bulkhead run`.
    Vm(VmSpec),
    /// `bulkhead storage`.
    Storage(StorageSpec),
}

impl Spec {
    /// Name of the instance.
    pub fn name(&self) -> &str {
        match self {
            Self::Vm(vm) => &vm.name,
            Self::Storage(storage) => &storage.name,
        }
    }

    /// Its disks.
    pub fn disks(&self) -> &[DiskSpec] {
        match self {
            Self::Vm(vm) => &vm.disks,
            Self::Storage(storage) => &storage.disks,
        }
    }

    /// Its NBD exports.
    pub fn nbd(&self) -> &[NbdSpec] {
        match self {
            Self::Vm(vm) => &vm.nbd,
            Self::Storage(storage) => &storage.nbd,
        }
    }

    /// Layers of the sandbox that may be missing.
    pub fn weaker(&self) -> &[Layer] {
        match self {
            Self::Vm(vm) => &vm.weaker,
            Self::Storage(storage) => &storage.weaker,
        }
    }
}
