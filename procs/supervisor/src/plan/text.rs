//! The plan as people read it: `--dry-run`.

use std::fmt::{self, Display, Formatter};

use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::spec::CacheMode;

use super::machine::Engine;
use super::{Disk, Machine, Plan, Source};
use crate::images::chain::{Layer, Service};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "instance {}", self.name)?;
        if let Some(machine) = &self.machine {
            describe_machine(f, machine)?;
        }
        for disk in &self.disks {
            describe_disk(f, disk)?;
        }
        writeln!(f, "processes")?;
        process(f, ProcessClass::Supervisor, "", "every descriptor below", &[])?;
        process(f, ProcessClass::Launcher, "", "the helpers' executables", &[])?;
        process(f, ProcessClass::Control, "", "the control socket", &[])?;
        if let Some(machine) = &self.machine {
            let engine = match machine.engine {
                Engine::Kvm(_) => "/dev/kvm",
                Engine::Soft(_) => "channels to soft-cpu",
            };
            let holds = format!("{engine}, guest memory, kernel, ttyS0, kicks and calls");
            process(f, ProcessClass::Core, "", &holds, &self.core_cpus)?;
            if let Engine::Soft(soft) = machine.engine {
                let holds = "guest memory, channels to core, kicks and calls";
                process(f, soft.class(), "", holds, &self.core_cpus)?;
            }
            if let Some(gdb) = &self.gdb {
                let holds =
                    format!("a debugger's socket at {}, a channel to core", gdb.door.address);
                process(f, ProcessClass::Gdb, "", &holds, &[])?;
            }
            if machine.console {
                let holds = "console stream, in-flight table, granted memory";
                process(f, ProcessClass::VhostConsole, "", holds, &[])?;
            }
            if machine.rng {
                let holds = "in-flight table, granted memory";
                process(f, ProcessClass::VhostRng, "", holds, &[])?;
            }
        }
        for disk in &self.disks {
            if let Source::Image(image) = &disk.source {
                let files: Vec<_> = image.chain.layers().iter().map(path).collect();
                let holds = format!("{}, block rings", files.join(", "));
                process(f, ProcessClass::BlockLayer, &disk.id, &holds, &disk.cpus)?;
                if self.machine.is_some() || disk.export.is_some() {
                    let holds = "block rings, in-flight table, granted memory";
                    process(f, ProcessClass::VhostBlk, &disk.id, holds, &disk.cpus)?;
                }
                for export in &disk.nbd {
                    let holds = format!("the socket at {}, a block ring", export.door.address);
                    process(f, ProcessClass::NbdServer, &export.id, &holds, &[])?;
                }
            }
        }
        Ok(())
    }
}

fn describe_machine(f: &mut Formatter<'_>, machine: &Machine) -> fmt::Result {
    writeln!(f, "  kernel   {}", machine.kernel.path.display())?;
    if let Some(initrd) = &machine.initrd {
        writeln!(f, "  initrd   {}", initrd.path.display())?;
    }
    writeln!(f, "  append   {}", machine.append)?;
    let engine = match &machine.engine {
        Engine::Kvm(_) => "kvm",
        Engine::Soft(soft) if soft.jit => "soft, jit on",
        Engine::Soft(_) => "soft, jit off",
    };
    writeln!(f, "  cpus     {} ({engine})", machine.cpus)?;
    writeln!(f, "  memory   {} MiB", machine.memory >> 20)
}

fn describe_disk(f: &mut Formatter<'_>, disk: &Disk) -> fmt::Result {
    write!(f, "  disk     {}: ", disk.id)?;
    match &disk.source {
        Source::Foreign(foreign) => write!(f, "vhost-user {}", foreign.path.display())?,
        Source::Image(image) => {
            let Service { cache, read_only, .. } = image.service;
            let cache = match cache {
                CacheMode::None => "none",
                CacheMode::Writeback => "writeback",
                CacheMode::Unsafe => "unsafe",
            };
            let access = if read_only { "read-only" } else { "read-write" };
            let top = image.chain.top();
            let (path, format) = match top.map(|top| (path(top), top.format)) {
                Some((path, LayerFormat::Qcow2)) => (path, "qcow2"),
                Some((path, LayerFormat::Raw)) => (path, "raw"),
                Some((path, LayerFormat::Luks)) => (path, "luks"),
                None => ("zeroes".to_owned(), "null-co"),
            };
            write!(f, "{path}, {format}, {access}")?;
            if top.is_some() {
                write!(f, ", locked, cache {cache}")?;
            }
        }
    }
    write!(f, ", {} queue{}", disk.queues(), plural(disk.queues()))?;
    match &disk.export {
        Some(export) => writeln!(f, ", socket {}", export.path.display())?,
        None => writeln!(f)?,
    }
    for export in &disk.nbd {
        let access = if export.read_only { "read-only" } else { "read-write" };
        let tls = match &export.tls {
            None => "",
            Some(tls) if tls.clients.is_some() => ", TLS, clients verified",
            Some(_) => ", TLS",
        };
        let (name, at) = (&export.name, &export.door.address);
        writeln!(f, "  nbd      {name}: {access}, {at}{tls}")?;
    }
    Ok(())
}

fn path(layer: &Layer) -> String {
    layer.path.display().to_string()
}

fn plural(count: u16) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn process(
    f: &mut Formatter<'_>,
    class: ProcessClass,
    id: &str,
    holds: &str,
    cpus: &[u32],
) -> fmt::Result {
    let name = if id.is_empty() { class.to_string() } else { format!("{class} {id}") };
    write!(f, "  {name:<20} {holds}")?;
    if !cpus.is_empty() {
        let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
        write!(f, "; CPU {}", cpus.join(", "))?;
    }
    writeln!(f)
}
