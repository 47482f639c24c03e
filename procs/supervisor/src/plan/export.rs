//! Exports of a storage instance: one listening socket for each disk.

use std::path::PathBuf;

use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{ExportSpec, StorageSpec};

use super::door::refused;
use super::{Disk, MOST_RINGS, Source};
use crate::listener::{Listener, Place, Traffic};
use crate::refusal::{refuse, refuse_path};

/// A disk's socket.
#[derive(Debug)]
pub struct Export {
    /// Absolute path.
    pub path: PathBuf,
    /// Absolute path until it is served.
    pub hidden_path: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
    /// The socket, still under its temporary name; none in a dry run.
    pub listener: Option<Listener>,
}

/// Gives each disk of a storage instance its export.
pub fn plan(spec: &StorageSpec, disks: &mut [Disk], dry: bool) -> Result<(), Refusal> {
    for export in &spec.exports {
        let option = option(export);
        let Some(disk) = disks.iter_mut().find(|disk| disk.id == export.disk) else {
            let remedy = "give a --disk of this id";
            return Err(refuse(option, &export.disk, "there is no such disk", remedy));
        };
        if disk.export.is_some() {
            let reason = "this disk is exported already";
            return Err(refuse(option, &export.disk, reason, "export each disk once"));
        }
        disk.export = Some(Export::plan(export, dry)?);
    }
    for disk in disks {
        let option = format!("--disk {}", disk.id);
        if matches!(disk.source, Source::Foreign(_)) {
            let reason = "another program's backend cannot be exported";
            return Err(refuse(option, "vhost-user", reason, "give an image by path="));
        }
        if disk.export.is_none() && !spec.nbd.iter().any(|nbd| nbd.disk == disk.id) {
            let reason = "nothing exports it";
            let remedy = format!("add --export nbd,disk={},socket=PATH", disk.id);
            return Err(refuse(option, &disk.id, reason, remedy));
        }
    }
    Ok(())
}

/// Gives a disk its export while it is served. Its queues run on the CPUs that the disk has.
pub fn add(spec: &ExportSpec, disk: &mut Disk) -> Result<(), Refusal> {
    let option = option(spec);
    if disk.export.is_some() {
        let reason = "this disk is exported to vhost-user frontends already";
        return Err(refuse(option, &spec.disk, reason, "remove that export first"));
    }
    if usize::from(spec.queues) + disk.nbd.len() > MOST_RINGS {
        let value = format!("queues={}", spec.queues);
        let reason = format!("with its NBD exports a disk has at most {MOST_RINGS} queues");
        return Err(refuse(option, value, reason, "give fewer"));
    }
    disk.export = Some(Export::plan(spec, false)?);
    let cpus = disk.cpus.iter().copied().cycle().take(spec.queues.into());
    disk.cpus = cpus.collect();
    Ok(())
}

impl Export {
    fn plan(spec: &ExportSpec, dry: bool) -> Result<Self, Refusal> {
        let (option, path) = (option(spec), spec.socket.as_path());
        let place = Place::find(path).map_err(|error| refused(&option, path, error))?;
        let (absolute, hidden_path) = (place.path.clone(), place.hidden_path());
        let bind = || place.bind(Traffic::Stream);
        let listener = (!dry).then(bind).transpose();
        Ok(Self {
            path: absolute,
            hidden_path,
            read_only: spec.read_only,
            listener: listener.map_err(|error| refuse_path(&option, path, &error))?,
        })
    }
}

fn option(spec: &ExportSpec) -> String {
    format!("--export {}", spec.disk)
}
