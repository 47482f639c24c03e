//! The machine itself: numbers, kernel, initrd, KVM.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bulkhead_protocol::core::EngineKind;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{EngineSpec, OnCrash, SoftSpec, VmSpec};
use nix::fcntl::OFlag;

use crate::open::{Found, Kind, find};
use crate::refusal::{io_reason, refuse, refuse_path};

/// RAM comes in pages.
const PAGE: u64 = 4096;

/// The smallest RAM that can hold page tables, ACPI tables and a kernel's first page.
const LEAST_MEMORY: u64 = 2 << 20;

/// Longest kernel command line, as x86 Linux reads it (COMMAND_LINE_SIZE, its NUL included).
const LONGEST_APPEND: usize = 2047;

/// A file that core will read.
#[derive(Debug)]
pub struct Payload {
    /// As the user wrote it.
    pub path: PathBuf,
    /// Opened for reading.
    pub file: OwnedFd,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// vCPUs, 1 to 16.
    pub cpus: u32,
    /// RAM in bytes.
    pub memory: u64,
    /// Kernel command line.
    pub append: String,
    /// The kernel.
    pub kernel: Payload,
    /// Initial RAM disk.
    pub initrd: Option<Payload>,
    /// What executes the guest.
    pub engine: Engine,
    /// Whether there is a virtio-console.
    pub console: bool,
    /// Whether there is a virtio-rng.
    pub rng: bool,
    /// A reset ends the VM.
    pub no_reboot: bool,
    /// Reaction to a crash.
    pub on_crash: OnCrash,
    /// The first port of a debug-exit device.
    pub debug_exit: Option<u16>,
}

/// What executes the guest.
#[derive(Debug)]
pub enum Engine {
    /// `/dev/kvm`.
    Kvm(OwnedFd),
    /// A soft-cpu process.
    Soft(SoftSpec),
}

impl Engine {
    /// As core is told.
    pub fn kind(&self) -> EngineKind {
        match self {
            Self::Kvm(_) => EngineKind::Kvm,
            Self::Soft(_) => EngineKind::Soft,
        }
    }
}

impl Machine {
    /// Plans the machine of `spec`.
    pub fn plan(spec: &VmSpec) -> Result<Self, Refusal> {
        check_cpus(spec.cpus, spec.engine.kind())?;
        check_memory(spec.memory, host_memory())?;
        check_append(&spec.append)?;
        let kernel = payload("--kernel", &spec.kernel, spec.memory)?;
        let initrd = match &spec.initrd {
            Some(path) => Some(payload("--initrd", path, spec.memory)?),
            None => None,
        };
        Ok(Self {
            cpus: spec.cpus,
            memory: spec.memory,
            append: spec.append.clone(),
            kernel,
            initrd,
            engine: match spec.engine {
                EngineSpec::Kvm => Engine::Kvm(open_kvm()?),
                EngineSpec::Soft(soft) => Engine::Soft(soft),
            },
            console: spec.console,
            rng: spec.rng,
            no_reboot: spec.no_reboot,
            on_crash: spec.on_crash,
            debug_exit: spec.debug_exit,
        })
    }
}

fn check_cpus(cpus: u32, engine: EngineKind) -> Result<(), Refusal> {
    match (cpus, engine) {
        (1..=16, EngineKind::Kvm) | (1..=8, EngineKind::Soft) => Ok(()),
        (_, EngineKind::Soft) => {
            let reason = "a machine in software has 1 to 8";
            Err(refuse("--cpus", cpus, reason, "choose from 1 to 8, or --cpu kvm"))
        }
        _ => Err(refuse("--cpus", cpus, "a machine has 1 to 16", "choose from 1 to 16")),
    }
}

fn check_memory(memory: u64, host: Option<u64>) -> Result<(), Refusal> {
    let refuse =
        |reason: String, remedy: &str| Err(refuse("--memory", as_written(memory), reason, remedy));
    match host {
        _ if memory < LEAST_MEMORY => refuse("no kernel fits".into(), "give at least 2M"),
        _ if !memory.is_multiple_of(PAGE) => {
            refuse("it is no multiple of 4096".into(), "round it to megabytes")
        }
        Some(host) if memory > host => {
            refuse(format!("this host has {} MiB", host >> 20), "give less than the host has")
        }
        _ => Ok(()),
    }
}

/// A size as a user writes it: in the largest unit of which it is a whole number.
fn as_written(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let whole = |shift: &u32| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match units.iter().find(|(_, shift)| whole(shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// RAM of this host in bytes.
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn check_append(append: &str) -> Result<(), Refusal> {
    let shown: String = append.chars().take(40).collect();
    if append.len() > LONGEST_APPEND {
        let reason = format!("it has {} bytes, a kernel reads {LONGEST_APPEND}", append.len());
        return Err(refuse("--append", shown, reason, "shorten it"));
    }
    if append.contains(char::is_control) {
        let reason = "it has control characters";
        return Err(refuse("--append", shown, reason, "give plain text"));
    }
    Ok(())
}

fn payload(option: &str, path: &Path, memory: u64) -> Result<Payload, Refusal> {
    let found = find(path).map_err(|error| refuse_path(option, path, &error))?;
    check_payload(option, path, &found, memory)?;
    let file = found.open(OFlag::O_RDONLY);
    let file = file.map_err(|error| refuse_path(option, path, &error))?;
    Ok(Payload { path: path.to_owned(), file })
}

fn check_payload(option: &str, path: &Path, found: &Found, memory: u64) -> Result<(), Refusal> {
    let refuse = |reason, remedy: &str| Err(refuse(option, path.display(), reason, remedy));
    match found.kind {
        Kind::File => {}
        Kind::Directory => return refuse("it is a directory".into(), "name a file in it"),
        _ => return refuse("it is no regular file".into(), "name a file"),
    }
    if found.is_empty() {
        return refuse("it is empty".into(), "name the right file");
    }
    if found.len() >= memory {
        let reason =
            format!("its {} bytes do not fit the guest's memory of {memory} bytes", found.len());
        return refuse(reason, "raise --memory");
    }
    Ok(())
}

fn open_kvm() -> Result<OwnedFd, Refusal> {
    const KVM: &str = "/dev/kvm";
    let refuse = |reason: &str, remedy: &str| Err(refuse("kvm", KVM, reason, remedy));
    let opened = find(Path::new(KVM)).and_then(|found| match found.kind {
        Kind::CharacterDevice => found.open(OFlag::O_RDWR),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    });
    match opened {
        Ok(fd) => Ok(fd),
        Err(error) => match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => refuse(
                "you may not open it",
                "join the group that owns it (usermod -aG kvm USER), or run as root",
            ),
            None | Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => refuse(
                "this host offers no KVM",
                "enable virtualisation in the firmware and load kvm-intel or kvm-amd",
            ),
            _ => {
                let (reason, remedy) = io_reason(&error);
                refuse(&reason, remedy)
            }
        },
    }
}
