//! From what a user asks for to what will be: every name checked, every file opened and locked.
//!
//! Called once by `main`, before anything is started and before the seal. A [`Spec`] goes in, a
//! [`Plan`] or a [`Refusal`] comes out; a refusal leaves nothing behind, since everything that was
//! made on the way is removed when it is dropped.
//!
//! Absent on purpose: a look into any file. What a kernel or an image holds is parsed by core and
//! block-layer, each in its jail.

mod binaries;
mod disk;
mod door;
mod export;
mod gdb;
mod machine;
mod names;
mod nbd;
pub mod text;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::SystemTime;

use bulkhead_protocol::VERSION;
use bulkhead_protocol::launch::Layer;
use bulkhead_protocol::record::{ImageRecord, InstanceKind, InstanceRecord};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::Spec;

pub use binaries::Binaries;
pub use disk::{Disk, Foreign, Image, Source};
pub use door::Door;
pub use export::{Export, add as add_export};
pub use gdb::Gdb;
pub use machine::{Engine, Machine};
pub use nbd::{MOST_EXPORTS, MOST_RINGS, NbdExport, add as add_nbd, read_pem};

use crate::cgroup::{self, Folder, Limits};
use crate::placement::{Placement, Wish, place};
use crate::refusal::{refuse, refuse_path};
use crate::rundir::{self, ClaimError, RunDir};

/// Greatest queue of a disk in a VM; core's transport offers no more.
pub const VM_QUEUE: u16 = 256;

/// Greatest queue a foreign frontend may choose: the most that vhost-user devices of this field use.
pub const EXPORT_QUEUE: u16 = 1024;

/// The roots that the command hands over.
#[derive(Debug)]
pub struct Roots {
    /// Folder of the helpers' binaries.
    pub binaries: OwnedFd,
    /// Folder of the instances' folders.
    pub runtime: OwnedFd,
}

/// What will be. Fields are dropped in this order: the folder goes last.
#[derive(Debug)]
pub struct Plan {
    /// The instance's name.
    pub name: String,
    /// Layers of the sandbox that may be missing.
    pub weaker: Vec<Layer>,
    /// Executables by descriptor.
    pub binaries: Binaries,
    /// The machine; none for storage.
    pub machine: Option<Machine>,
    /// A debugger's way in.
    pub gdb: Option<Gdb>,
    /// Disks, in PCI order.
    pub disks: Vec<Disk>,
    /// CPUs core may use; empty: all.
    pub core_cpus: Vec<u32>,
    /// Cgroup folders that could be made.
    pub cgroups: Vec<Folder>,
    /// The instance's folder; none in a dry run.
    pub folder: Option<RunDir>,
    /// When it was made, in microseconds since the epoch.
    pub started: u64,
}

impl Plan {
    /// Plans `spec`. `dry`: nothing is made that others could see.
    pub fn make(spec: &Spec, roots: Roots, dry: bool) -> Result<Self, Refusal> {
        names::check(spec)?;
        rundir::collect(&roots.runtime);
        let instances = rundir::living(&roots.runtime);
        let name = spec.name();
        let folder = match dry {
            true => refuse_living(&instances, name).map(|()| None)?,
            false => Some(claim(roots.runtime, name)?),
        };
        let mask = cpu_mask()?;
        let machine = match spec {
            Spec::Vm(vm) => Some(Machine::plan(vm)?),
            Spec::Storage(_) => None,
        };
        let vcpus = machine.as_ref().map_or(0, |machine| machine.cpus);
        let wishes = disk::wishes(spec, vcpus, &mask)?;
        let Placement { core, disks: cpus } = place(&mask, vcpus, &wishes, std::process::id());
        let mut disks = Vec::new();
        for (spec, cpus) in spec.disks().iter().zip(cpus) {
            let disk = Disk::plan(spec, cpus, &instances, &disks)?;
            disks.push(disk);
        }
        if let Spec::Storage(storage) = spec {
            export::plan(storage, &mut disks, dry)?;
        }
        nbd::plan(spec.nbd(), &mut disks, machine.is_some(), dry)?;
        let gdb = match spec {
            Spec::Vm(vm) => vm.gdb.as_ref().map(|gdb| Gdb::plan(gdb, dry)).transpose()?,
            Spec::Storage(_) => None,
        };
        let binaries = Binaries::open(&roots.binaries, spec)?;
        let cgroups =
            if dry { Vec::new() } else { cgroup::make_all(name, &limits(&machine, &disks)) };
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let plan = Self {
            name: name.to_owned(),
            weaker: spec.weaker().to_vec(),
            binaries,
            machine,
            gdb,
            disks,
            core_cpus: core,
            cgroups,
            folder,
            started: since_epoch.map_or(0, |time| time.as_micros() as u64),
        };
        plan.leave_record()?;
        Ok(plan)
    }

    /// What it has taken has changed. A record that cannot be written stays as it was: it is for others.
    pub fn update_record(&self) {
        if let Some(folder) = &self.folder {
            let _ = folder.replace_record(&self.record());
        }
    }

    fn leave_record(&self) -> Result<(), Refusal> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let written = folder.write_record(&self.record());
        written.map_err(|error| refuse_path("--name", self.name.as_ref(), &error))
    }

    fn record(&self) -> InstanceRecord {
        InstanceRecord {
            version: VERSION,
            name: self.name.clone(),
            kind: match self.machine {
                Some(_) => InstanceKind::Vm,
                None => InstanceKind::Storage,
            },
            pid: std::process::id() as i32,
            started: self.started,
            images: self.disks.iter().filter_map(image_record).collect(),
            sockets: self
                .disks
                .iter()
                .filter_map(|disk| disk.export.as_ref())
                .flat_map(sockets)
                .chain(self.doors().flat_map(|door| door.paths.clone()))
                .collect(),
            cgroups: self.cgroups.iter().map(|folder| folder.path().to_owned()).collect(),
        }
    }
}

impl Plan {
    fn doors(&self) -> impl Iterator<Item = &Door> {
        let nbd = self.disks.iter().flat_map(|disk| &disk.nbd).map(|export| &export.door);
        self.gdb.iter().map(|gdb| &gdb.door).chain(nbd)
    }
}

fn limits(machine: &Option<Machine>, disks: &[Disk]) -> Limits {
    match machine {
        Some(machine) => {
            let images = disks.iter().map(Disk::bytes_in_memory);
            Limits::of_machine(machine.memory, images.fold(0, u64::saturating_add))
        }
        None => Limits::of_storage(),
    }
}

fn image_record(disk: &Disk) -> Option<ImageRecord> {
    let Source::Image(image) = &disk.source else {
        return None;
    };
    let top = image.chain.top()?;
    // What lies on a server is nobody's file.
    let identity = top.files().next()?.identity;
    Some(ImageRecord {
        id: disk.id.clone(),
        path: top.path.clone(),
        device: identity.device,
        inode: identity.inode,
        read_only: image.service.read_only,
    })
}

fn sockets(export: &Export) -> [PathBuf; 2] {
    [export.path.clone(), export.hidden_path.clone()]
}

fn claim(runtime: OwnedFd, name: &str) -> Result<RunDir, Refusal> {
    RunDir::claim(runtime, name).map_err(|error| match error {
        ClaimError::Taken(owner) => taken(name, owner.as_deref()),
        ClaimError::Host(error) => refuse_path("--name", name.as_ref(), &error),
    })
}

fn refuse_living(instances: &[InstanceRecord], name: &str) -> Result<(), Refusal> {
    match instances.iter().find(|instance| instance.name == name) {
        Some(owner) => Err(taken(name, Some(owner))),
        None => Ok(()),
    }
}

fn taken(name: &str, owner: Option<&InstanceRecord>) -> Refusal {
    let reason = match owner {
        Some(owner) => format!("an instance of this name runs (pid {})", owner.pid),
        None => "an instance of this name is being started".to_owned(),
    };
    let remedy = "choose another --name, or end it by `bulkhead kill`";
    refuse("--name", name, reason, remedy)
}

fn cpu_mask() -> Result<Vec<u32>, Refusal> {
    let allowed = bulkhead_sys::cpu::allowed();
    let mask = allowed.map_err(|error| refuse("cpu", "mask", error, "check the CPU affinity"))?;
    Ok(mask.into_iter().filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// A user's wish for CPUs, checked against the mask.
fn checked_wish(
    option: &str,
    queues: u16,
    cpu: Option<u32>,
    mask: &[u32],
) -> Result<Wish, Refusal> {
    if !(1..=16).contains(&queues) {
        let reason = "a disk has 1 to 16 queues";
        return Err(refuse(option, format!("queues={queues}"), reason, "choose from 1 to 16"));
    }
    match cpu {
        Some(cpu) if !mask.contains(&cpu) => {
            let reason = format!("this process may run on CPUs {mask:?} only");
            Err(refuse(
                option,
                format!("cpu={cpu}"),
                reason,
                "choose one of these, or leave it out",
            ))
        }
        _ => Ok(Wish { queues, cpu }),
    }
}

#[cfg(test)]
mod tests;
