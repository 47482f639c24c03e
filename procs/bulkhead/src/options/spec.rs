//! Options → spec. What needs the host's files is the supervisor's to check.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_protocol::launch::Layer;
use bulkhead_protocol::spec::{DiskSpec, EngineSpec, OnCrash, Spec, StorageSpec, VmSpec};

use super::cpu::Cpu;
use super::export::Export;
use super::keyed::nearest;
use super::output::{Console, Serial};
use super::{disk, export, file, gdb, number, size};
use crate::choice::Choice;
use crate::cli::{RunOptions, StorageOptions};
use crate::refusal::refuse;

const DEFAULT_MEMORY: u64 = 512 << 20;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The last port from which four may be claimed.
const LAST_PORT: u16 = 0xfffc;

/// A spec and what the command itself needs beside it.
#[derive(Debug)]
pub struct RunPlan {
    /// For the supervisor.
    pub spec: Spec,
    /// The engine that was chosen and why, in a line, if the user left the choice open.
    pub chosen: Option<String>,
    /// The file for the trace of a software engine.
    pub trace: Option<PathBuf>,
    /// Where the virtio-console goes.
    pub console: Console,
    /// Where ttyS0 goes.
    pub serial: Serial,
    /// Keep running after the command has returned.
    pub detach: bool,
    /// Only print the plan.
    pub dry_run: bool,
    /// What SIGTERM grants the guest; `None`: it is ended at once (storage has no power button).
    pub shutdown_timeout: Option<Duration>,
}

/// Reads the options of `run`.
/// `auto`: what chooses an engine for so many vCPUs where the user leaves that open.
pub fn vm(mut options: RunOptions, auto: &dyn Fn(u32) -> Choice) -> anyhow::Result<RunPlan> {
    if let Some(path) = options.file.take() {
        file::merge(&mut options, &path)?;
    }
    let console = Console::parse(options.console.as_deref())?;
    let serial = Serial::parse(options.serial.as_deref(), &console)?;
    let shutdown_timeout = match options.shutdown_timeout.as_deref() {
        Some(text) => number::seconds("--shutdown-timeout", text)?,
        None => DEFAULT_TIMEOUT,
    };
    let Some(kernel) = options.kernel else {
        return Err(refuse(
            "--kernel",
            "(none)",
            "there is nothing to boot",
            "give a kernel: --kernel FILE",
        ));
    };
    let cpu = Cpu::parse(options.cpu.as_deref())?;
    let mut spec = VmSpec {
        name: name(options.name, "vm")?,
        kernel,
        initrd: options.initrd,
        append: options.append.unwrap_or_default(),
        cpus: cpus(options.cpus.as_deref())?,
        memory: memory(options.memory.as_deref())?,
        disks: disks(&options.disks)?,
        console: console != Console::Off,
        rng: options.rng,
        no_reboot: options.no_reboot,
        on_crash: on_crash(options.on_crash.as_deref())?,
        engine: EngineSpec::Kvm,
        debug_exit: options.debug_exit.as_deref().map(port).transpose()?,
        gdb: options.gdb.as_deref().map(gdb::parse).transpose()?,
        nbd: Vec::new(),
        weaker: layers(&options.weaker)?,
    };
    for (export, text) in
        export::all(&options.exports, &spec.disks)?.into_iter().zip(&options.exports)
    {
        let Export::Nbd(export) = export else {
            let reason = "the guest uses this disk by vhost-user itself";
            return Err(refuse("--export", text, reason, "export it by nbd"));
        };
        spec.nbd.push(export);
    }
    let (mut chosen, mut trace) = (None, None);
    spec.engine = match cpu {
        Cpu::Kvm => EngineSpec::Kvm,
        Cpu::Soft(soft, file) => {
            if let (Some(file), true) = (&file, options.detach) {
                let value = format!("soft,trace={}", file.display());
                let reason = "nobody would write it once the command has returned";
                return Err(refuse("--cpu", &value, reason, "leave out trace= or --detach"));
            }
            trace = file;
            EngineSpec::Soft(soft)
        }
        Cpu::Auto => {
            let choice = auto(spec.cpus);
            chosen = Some(choice.why);
            choice.engine
        }
    };
    Ok(RunPlan {
        spec: Spec::Vm(spec),
        chosen,
        trace,
        console,
        serial,
        detach: options.detach,
        dry_run: options.dry_run,
        shutdown_timeout: Some(shutdown_timeout),
    })
}

/// Reads the options of `storage`.
pub fn storage(options: StorageOptions) -> anyhow::Result<RunPlan> {
    let disks = disks(&options.disks)?;
    let (mut exports, mut nbd) = (Vec::new(), Vec::new());
    for export in export::all(&options.exports, &disks)? {
        match export {
            Export::VhostUser(export) => exports.push(export),
            Export::Nbd(export) => nbd.push(export),
        }
    }
    let spec = StorageSpec {
        name: name(options.name, "storage")?,
        disks,
        exports,
        nbd,
        weaker: layers(&options.weaker)?,
    };
    Ok(RunPlan {
        spec: Spec::Storage(spec),
        chosen: None,
        trace: None,
        console: Console::Off,
        serial: Serial::Off,
        detach: false,
        dry_run: options.dry_run,
        shutdown_timeout: None,
    })
}

fn name(given: Option<String>, prefix: &str) -> anyhow::Result<String> {
    let name = given.unwrap_or_else(|| format!("{prefix}-{}", std::process::id()));
    if disk::is_name(&name) {
        return Ok(name);
    }
    Err(refuse("--name", &name, "it is no name", "use up to 32 letters, digits, -, _ and ."))
}

fn cpus(text: Option<&str>) -> anyhow::Result<u32> {
    number::between("--cpus", text.unwrap_or("1"), 1, 16)
}

fn memory(text: Option<&str>) -> anyhow::Result<u64> {
    let Some(text) = text else {
        return Ok(DEFAULT_MEMORY);
    };
    let remedy = "give a size such as 512M or 4G, at least 16M";
    let bytes = size::parse(text).map_err(|why| refuse("--memory", text, why, remedy))?;
    if bytes < 16 << 20 {
        return Err(refuse("--memory", text, "no kernel boots in so little", remedy));
    }
    if !bytes.is_multiple_of(2 << 20) {
        return Err(refuse("--memory", text, "it is not a multiple of 2M", "round it to whole 2M"));
    }
    Ok(bytes)
}

fn disks(texts: &[String]) -> anyhow::Result<Vec<DiskSpec>> {
    let mut disks: Vec<DiskSpec> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let disk = disk::parse(text, index)?;
        if disks.iter().any(|other| other.id == disk.id) {
            let reason = format!("id '{}' is taken by another disk", disk.id);
            return Err(refuse("--disk", text, reason, "give each disk its own id=…"));
        }
        disks.push(disk);
    }
    Ok(disks)
}

/// A port, in either base. Four are claimed from there.
fn port(text: &str) -> anyhow::Result<u16> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match number {
        Ok(port @ ..=LAST_PORT) => Ok(port),
        _ => Err(refuse("--debug-exit", text, "it is no port", "give one from 0 to 0xfffc")),
    }
}

fn on_crash(text: Option<&str>) -> anyhow::Result<OnCrash> {
    Ok(match text {
        None | Some("stop") => OnCrash::Stop,
        Some("reset") => OnCrash::Reset,
        Some("pause") => OnCrash::Pause,
        Some(other) => {
            let remedy = nearest(other, &["stop", "reset", "pause"]);
            return Err(refuse("--on-crash", other, "it is not an action", &remedy));
        }
    })
}

fn layers(texts: &[String]) -> anyhow::Result<Vec<Layer>> {
    let layer = |text: &String| {
        Layer::from_name(text).ok_or_else(|| {
            let names: Vec<&str> = Layer::ALL.iter().map(|layer| layer.name()).collect();
            let remedy = nearest(text, &names);
            refuse("--allow-weaker-sandbox", text, "it is not a layer of the sandbox", &remedy)
        })
    };
    texts.iter().map(layer).collect()
}
