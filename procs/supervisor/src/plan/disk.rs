//! Disks: images opened and locked, foreign backends found.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::filters::{Filters, GROUP_BYTES, Limits};
use bulkhead_protocol::record::InstanceRecord;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{
    AioMode, BackingFormat, BackingSpec, CacheMode, DiskSource, DiskSpec, Format, OnError, Part,
    ServerSpec, Spec,
};

use super::{Export, NbdExport, checked_wish};
use crate::images::chain::{Chain, Layer, Place, Service};
use crate::images::remote::{Remote, refuse_too_many};
use crate::images::take::{LockedFile, Wanted};
use crate::images::{owner, secret};
use crate::open::{Identity, Kind, find};
use crate::placement::{QueueCpus, Wish};
use crate::refusal::{refuse, refuse_path};

/// Sectors of virtio-blk, and the least unit of an image.
const SECTOR: u64 = 512;

/// One disk.
#[derive(Debug)]
pub struct Disk {
    /// Its name.
    pub id: String,
    /// Serial number for the guest.
    pub serial: String,
    /// CPU of each queue; as many as it has queues.
    pub cpus: QueueCpus,
    /// What stands in front of it.
    pub filters: Filters,
    /// The levels of its throttle group, if it is in one.
    pub group: Option<OwnedFd>,
    /// What is done about errors.
    pub on_error: OnError,
    /// Who makes its direct transfers.
    pub aio: AioMode,
    /// Where its bytes are.
    pub source: Source,
    /// The file that it is held against.
    pub reference: Option<LockedFile>,
    /// Its listening socket, in a storage instance.
    pub export: Option<Export>,
    /// Its NBD exports.
    pub nbd: Vec<NbdExport>,
    /// NBD exports that it had so far.
    pub exports_made: usize,
}

/// Where a disk's bytes are.
#[derive(Debug)]
pub enum Source {
    /// An image for our own block layer.
    Image(Image),
    /// Another program's backend.
    Foreign(Foreign),
}

/// Opened, locked images: one, or a chain of them.
#[derive(Debug)]
pub struct Image {
    /// Its files.
    pub chain: Chain,
    /// How they are served.
    pub service: Service,
}

/// A foreign backend's socket.
#[derive(Debug)]
pub struct Foreign {
    /// As the user wrote it.
    pub path: PathBuf,
    /// Its folder.
    pub folder: OwnedFd,
    /// Its name there.
    pub name: String,
}

impl Disk {
    /// How many queues it has.
    pub fn queues(&self) -> u16 {
        self.cpus.len() as u16
    }

    /// The NBD export of a number.
    pub fn nbd(&self, number: usize) -> Option<&NbdExport> {
        self.nbd.iter().find(|export| export.number == number)
    }

    /// By which the export of a consumer is removed: that of number 0 is for vhost-user frontends.
    pub fn export_id(&self, number: usize) -> Option<String> {
        match number {
            0 => self.export.as_ref().map(|_| self.blk_export_id()),
            _ => self.nbd(number).map(|export| export.id.clone()),
        }
    }

    /// Where its clients connect.
    pub fn address_of(&self, number: usize) -> String {
        let nbd = self.nbd(number).map(|export| export.door.address.clone());
        let own = self.export.as_ref().filter(|_| number == 0);
        nbd.or_else(|| own.map(|own| own.path.display().to_string())).unwrap_or_default()
    }

    /// By which its export for vhost-user frontends is removed.
    pub fn blk_export_id(&self) -> String {
        format!("{}-vhost-user-blk", self.id)
    }

    /// The NBD export of a number.
    pub fn nbd_mut(&mut self, number: usize) -> Option<&mut NbdExport> {
        self.nbd.iter_mut().find(|export| export.number == number)
    }

    /// Bytes of its image, if that lies in memory (tmpfs).
    pub fn bytes_in_memory(&self) -> u64 {
        let Source::Image(image) = &self.source else {
            return 0;
        };
        let in_memory = |layer: &Layer| {
            let file = layer.files().next().map(|file| &file.file);
            file.filter(|file| bulkhead_sys::file::is_in_memory(file).unwrap_or(false))
                .map_or(0, |file| bulkhead_sys::file::size(file).unwrap_or(0))
        };
        image.chain.top().map_or(0, in_memory)
    }

    /// Plans a disk; `before` are those planned already.
    pub fn plan(
        spec: &DiskSpec,
        cpus: QueueCpus,
        instances: &[InstanceRecord],
        before: &[Self],
    ) -> Result<Self, Refusal> {
        let option = format!("--disk {}", spec.id);
        if let Err(error) = spec.filters.check() {
            let remedy = "see 'bulkhead run --help'";
            return Err(refuse(&option, "its filters", error.to_string(), remedy));
        }
        let (limits, group) = join_group(&option, &spec.filters, before)?;
        let source = match &spec.source {
            DiskSource::Null { size, read_only } => {
                check_zeroes(&option, *size)?;
                let cache = CacheMode::Writeback;
                let service = Service { cache, discard: true, read_only: *read_only };
                Source::Image(Image { chain: Chain::of_zeroes(*size), service })
            }
            DiskSource::VhostUser { socket } => Source::Foreign(foreign(&option, socket)?),
            DiskSource::Image { path, server, format, cache, discard, read_only } => {
                let neighbours = Neighbours { option: &option, instances, before };
                let service = Service { cache: *cache, discard: *discard, read_only: *read_only };
                let chain =
                    Chain::new(neighbours.layers(path, server.as_ref(), format, service)?);
                Source::Image(Image { chain, service })
            }
        };
        let reference = match (&source, &spec.verify) {
            (_, None) => None,
            (Source::Image(Image { chain, service }), Some(path)) if chain.top().is_some() => {
                let neighbours = Neighbours { option: &option, instances, before };
                Some(neighbours.take(path, Service { cache: CacheMode::Writeback, ..*service })?)
            }
            (_, Some(path)) => {
                let value = format!("verify={}", path.display());
                let reason = "only a disk of an image can be held against another file";
                return Err(refuse(option, value, reason, "leave it out"));
            }
        };
        Ok(Self {
            id: spec.id.clone(),
            serial: spec.serial.clone(),
            cpus,
            filters: Filters { limits, ..spec.filters.clone() },
            group,
            on_error: spec.on_error,
            aio: spec.aio,
            source,
            reference,
            export: None,
            nbd: Vec::new(),
            exports_made: 0,
        })
    }
}

/// The limits of a disk, which are its group's, and the group's levels.
fn join_group(
    option: &str,
    filters: &Filters,
    before: &[Disk],
) -> Result<(Limits, Option<OwnedFd>), Refusal> {
    let Some(name) = &filters.group else {
        return Ok((filters.limits, None));
    };
    let host = |error: io::Error| refuse(option, name, error.to_string(), "see the host's log");
    let member = before.iter().find(|disk| disk.filters.group.as_ref() == Some(name));
    let Some((member, levels)) = member.and_then(|disk| Some((disk, disk.group.as_ref()?))) else {
        let levels = bulkhead_sys::memfd::create_sealed("group", GROUP_BYTES).map_err(host)?;
        return Ok((filters.limits, Some(levels)));
    };
    if filters.limits != Limits::default() && filters.limits != member.filters.limits {
        let reason = format!("disk {} has other limits, and is in the same group", member.id);
        let remedy = "give the limits of a group once, at its first disk";
        return Err(refuse(option, format!("throttling.group={name}"), reason, remedy));
    }
    Ok((member.filters.limits, Some(levels.try_clone().map_err(host)?)))
}

/// What each disk asks of the placement.
pub fn wishes(spec: &Spec, vcpus: u32, mask: &[u32]) -> Result<Vec<Wish>, Refusal> {
    let wish = |disk: &DiskSpec| {
        let queues = match (spec, disk.queues) {
            (Spec::Storage(storage), _) => {
                let export = storage.exports.iter().find(|export| export.disk == disk.id);
                export.map_or(1, |export| export.queues)
            }
            (Spec::Vm(_), 0) => vcpus as u16,
            (Spec::Vm(_), queues) => queues,
        };
        checked_wish(&format!("--disk {}", disk.id), queues, disk.cpu, mask)
    };
    spec.disks().iter().map(wish).collect()
}

/// Who else may use an image.
struct Neighbours<'a> {
    option: &'a str,
    instances: &'a [InstanceRecord],
    before: &'a [Disk],
}

impl Neighbours<'_> {
    fn owner(&self, identity: Identity) -> String {
        let is_it = |disk: &&Disk| match &disk.source {
            Source::Image(image) => image.chain.layers().iter().any(|layer| layer.is(identity)),
            Source::Foreign(_) => false,
        };
        match self.before.iter().find(is_it) {
            Some(disk) => format!("disk {} of this very instance", disk.id),
            None => owner::name(self.instances, identity),
        }
    }

    fn take(&self, path: &Path, service: Service) -> Result<LockedFile, Refusal> {
        let Service { cache, read_only, .. } = service;
        let wanted = Wanted { option: self.option, path, cache, read_only };
        let locked = wanted.take(&|identity| self.owner(identity))?;
        check_size(&wanted, &locked)?;
        Ok(locked)
    }

    fn place(
        &self,
        path: &Path,
        server: Option<&ServerSpec>,
        service: Service,
    ) -> Result<Place, Refusal> {
        let Some(server) = server else {
            return self.take(path, service).map(Place::File);
        };
        let mut remote = Remote::new(self.option, path, server)?;
        remote.connect(self.option, path)?;
        Ok(Place::Remote(Box::new(remote)))
    }

    /// The layers of an image. Backing files are read, and by pages: nobody's flush waits for them.
    fn layers(
        &self,
        path: &Path,
        server: Option<&ServerSpec>,
        format: &Format,
        service: Service,
    ) -> Result<Vec<Layer>, Refusal> {
        check_connections(self.option, server, format)?;
        let place = self.place(path, server, service)?;
        let (secret, data_file, backing) = match format {
            Format::Raw(part) => {
                if let (true, Place::File(file)) = (*part == Part::default(), &place) {
                    check_sectors(self.option, path, file)?;
                }
                return Ok(vec![Layer { part: *part, ..layer(path, LayerFormat::Raw, place) }]);
            }
            Format::Luks { secret } => {
                let secret = Some(secret::take(self.option, secret)?);
                return Ok(vec![Layer { secret, ..layer(path, LayerFormat::Luks, place) }]);
            }
            Format::Qcow2 { secret, data_file, backing } => (secret, data_file, backing),
        };
        let mut top = layer(path, LayerFormat::Qcow2, place);
        top.secret = secret.as_ref().map(|path| secret::take(self.option, path)).transpose()?;
        if let Some(path) = data_file {
            top.data_file = Some(self.take(path, service)?);
        }
        let mut layers = vec![top];
        let below = Service { cache: CacheMode::Writeback, read_only: true, ..service };
        for BackingSpec { path, server, format } in backing {
            let place = self.place(path, server.as_ref(), below)?;
            layers.push(match format {
                BackingFormat::Raw(part) => {
                    Layer { part: *part, ..layer(path, LayerFormat::Raw, place) }
                }
                BackingFormat::Qcow2 => layer(path, LayerFormat::Qcow2, place),
                BackingFormat::Luks { secret } => {
                    let secret = Some(secret::take(self.option, secret)?);
                    Layer { secret, ..layer(path, LayerFormat::Luks, place) }
                }
            });
        }
        Ok(layers)
    }
}

/// Before anything is connected.
fn check_connections(
    option: &str,
    server: Option<&ServerSpec>,
    format: &Format,
) -> Result<(), Refusal> {
    let backing = match format {
        Format::Qcow2 { backing, .. } => backing.as_slice(),
        Format::Raw(_) | Format::Luks { .. } => &[],
    };
    let below = backing.iter().filter_map(|layer| layer.server.as_ref());
    let mut others: u16 = 0;
    for server in server.into_iter().chain(below) {
        refuse_too_many(option, others, server)?;
        others = others.saturating_add(server.connections);
    }
    Ok(())
}

fn layer(path: &Path, format: LayerFormat, place: Place) -> Layer {
    // As headers name it from now on, and as it is found again whatever the working directory is.
    let path = match &place {
        Place::File(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        Place::Remote(_) => path.to_owned(),
    };
    let (data_file, secret, part, journal) = (None, None, Part::default(), None);
    Layer { number: 0, path, format, place, data_file, secret, part, journal }
}

fn check_size(wanted: &Wanted<'_>, locked: &LockedFile) -> Result<(), Refusal> {
    match bulkhead_sys::file::size(&locked.file) {
        Err(error) => Err(wanted.host(&error)),
        Ok(0) => Err(wanted.refuse("it is empty", "make it larger, as with truncate -s 1G")),
        Ok(_) => Ok(()),
    }
}

fn check_zeroes(option: &str, size: u64) -> Result<(), Refusal> {
    match size > 0 && size.is_multiple_of(SECTOR) && i64::try_from(size).is_ok() {
        true => Ok(()),
        false => Err(refuse(option, size, "no disk has this size", "give a multiple of 512")),
    }
}

/// A raw image's length is the disk's, and so a multiple of a sector.
fn check_sectors(option: &str, path: &Path, locked: &LockedFile) -> Result<(), Refusal> {
    let size = bulkhead_sys::file::size(&locked.file);
    match size.map_err(|error| refuse_path(option, path, &error))? {
        size if size.is_multiple_of(SECTOR) => Ok(()),
        size => Err(refuse(
            option,
            path.display(),
            format!("its size of {size} bytes is no multiple of 512"),
            "pad it, as with truncate -s %512",
        )),
    }
}

fn foreign(option: &str, path: &Path) -> Result<Foreign, Refusal> {
    let value = format!("vhost-user={}", path.display());
    let found = find(path).map_err(|error| refuse_path(option, path, &error))?;
    if found.kind != Kind::Socket {
        let reason = "it is no socket";
        return Err(refuse(option, value, reason, "name the backend's socket"));
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return Err(refuse(option, value, "it names no file", "name the backend's socket"));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = find(parent.unwrap_or(Path::new(".")));
    let folder = folder.map_err(|error| refuse_path(option, path, &error))?;
    Ok(Foreign { path: path.to_owned(), folder: folder.into_fd(), name: name.to_owned() })
}
