//! Disks: images opened and locked, foreign backends found.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_protocol::record::InstanceRecord;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{BackingSpec, CacheMode, DiskSource, DiskSpec, Format, Spec};
use nix::fcntl::OFlag;

use super::{Export, checked_wish};
use crate::images::lock::{ImageLock, LockError, Use};
use crate::images::owner;
use crate::open::{Found, Identity, Kind, find};
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
    /// Rehearsal delay of each request in milliseconds.
    pub delay_ms: u32,
    /// Where its bytes are.
    pub source: Source,
    /// Its listening socket, in a storage instance.
    pub export: Option<Export>,
}

/// Where a disk's bytes are.
#[derive(Debug)]
pub enum Source {
    /// An image for our own block layer.
    Image(Image),
    /// Another program's backend.
    Foreign(Foreign),
}

/// An opened, locked image.
#[derive(Debug)]
pub struct Image {
    /// As the user wrote it.
    pub path: PathBuf,
    /// The description that block-layers get.
    pub file: OwnedFd,
    /// Which object it is.
    pub identity: Identity,
    /// Host caching.
    pub cache: CacheMode,
    /// Whether discards reach the image.
    pub discard: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// What else a qcow2 image consists of; `None`: the image is raw.
    pub qcow2: Option<Qcow2>,
    _lock: ImageLock,
}

/// The other files of a qcow2 image.
#[derive(Debug)]
pub struct Qcow2 {
    /// Its external data file.
    pub data_file: Option<LockedFile>,
    /// Its backing files, the nearest first.
    pub backing: Vec<Backing>,
}

/// A file with its lock.
#[derive(Debug)]
pub struct LockedFile {
    /// The description that block-layers get.
    pub file: OwnedFd,
    _lock: ImageLock,
}

/// A backing file.
#[derive(Debug)]
pub struct Backing {
    /// The file, opened for reading.
    pub file: LockedFile,
    /// It is a qcow2 image itself.
    pub qcow2: bool,
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

    /// Bytes of its image, if that lies in memory (tmpfs).
    pub fn bytes_in_memory(&self) -> u64 {
        let Source::Image(image) = &self.source else {
            return 0;
        };
        match bulkhead_sys::file::is_in_memory(&image.file) {
            Ok(true) => bulkhead_sys::file::size(&image.file).unwrap_or(0),
            _ => 0,
        }
    }

    /// Plans a disk; `before` are those planned already.
    pub fn plan(
        spec: &DiskSpec,
        cpus: QueueCpus,
        instances: &[InstanceRecord],
        before: &[Self],
    ) -> Result<Self, Refusal> {
        let option = format!("--disk {}", spec.id);
        let source = match &spec.source {
            DiskSource::VhostUser { socket } => Source::Foreign(foreign(&option, socket)?),
            DiskSource::Image { path, format, cache, discard, read_only } => {
                let neighbours = Neighbours { instances, before };
                let raw = *format == Format::Raw;
                let option = option.as_str();
                let wanted =
                    Wanted { option, path, cache: *cache, read_only: *read_only, whole: raw };
                let (locked, identity) = wanted.take(&neighbours)?;
                Source::Image(Image {
                    path: path.clone(),
                    file: locked.file,
                    identity,
                    cache: *cache,
                    discard: *discard,
                    read_only: *read_only,
                    qcow2: wanted.others(format, &neighbours)?,
                    _lock: locked._lock,
                })
            }
        };
        Ok(Self {
            id: spec.id.clone(),
            serial: spec.serial.clone(),
            cpus,
            delay_ms: spec.delay_ms,
            source,
            export: None,
        })
    }
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

/// An image as the user wants it.
struct Wanted<'a> {
    option: &'a str,
    path: &'a Path,
    cache: CacheMode,
    read_only: bool,
    /// Its length is the disk's, and so a multiple of a sector.
    whole: bool,
}

/// Who else may use an image.
struct Neighbours<'a> {
    instances: &'a [InstanceRecord],
    before: &'a [Disk],
}

enum Fault {
    Refused(Refusal),
    Locked,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Wanted<'_> {
    fn take(&self, neighbours: &Neighbours<'_>) -> Result<(LockedFile, Identity), Refusal> {
        let found = find(self.path).map_err(|error| refuse_path(self.option, self.path, &error))?;
        let identity = found.identity();
        match self.open_and_lock(&found) {
            Ok((file, lock)) => Ok((LockedFile { file, _lock: lock }, identity)),
            Err(Fault::Refused(refusal)) => Err(refusal),
            Err(Fault::Locked) => {
                let Neighbours { instances, before } = *neighbours;
                Err(locked(self.option, self.path, identity, instances, before))
            }
        }
    }

    /// The other files of this image. Backing files are read, and by pages: nobody's flush waits for them.
    fn others(
        &self,
        format: &Format,
        neighbours: &Neighbours<'_>,
    ) -> Result<Option<Qcow2>, Refusal> {
        let Format::Qcow2 { data_file, backing } = format else {
            return Ok(None);
        };
        let data_file = match data_file {
            Some(path) => Some(Wanted { path, whole: false, ..*self }.take(neighbours)?.0),
            None => None,
        };
        let layer = |layer: &BackingSpec| {
            let path = &layer.path;
            let cache = CacheMode::Writeback;
            let wanted = Wanted { path, cache, read_only: true, whole: false, ..*self };
            Ok(Backing { file: wanted.take(neighbours)?.0, qcow2: layer.qcow2 })
        };
        let backing = backing.iter().map(layer).collect::<Result<_, Refusal>>()?;
        Ok(Some(Qcow2 { data_file, backing }))
    }

    fn open_and_lock(&self, found: &Found) -> Result<(OwnedFd, ImageLock), Fault> {
        self.check_kind(found)?;
        let file = found.open(self.flags()).map_err(|error| self.host(&error))?;
        self.check_size(&file)?;
        let own = found.open(self.flags() - OFlag::O_DIRECT);
        let own = own.map_err(|error| self.host(&error))?;
        let purpose = if self.read_only { Use::Read } else { Use::Write };
        let lock = ImageLock::take(file.as_fd(), own, purpose).map_err(|error| match error {
            LockError::Taken => Fault::Locked,
            LockError::Host(_) => Fault::Refused(self.refuse(
                &error.to_string(),
                "move it to a file system with open-file-description locks",
            )),
        })?;
        Ok((file, lock))
    }

    fn flags(&self) -> OFlag {
        let access = match self.read_only {
            true => OFlag::O_RDONLY,
            false => OFlag::O_RDWR,
        };
        match self.cache {
            CacheMode::None => access | OFlag::O_DIRECT,
            CacheMode::Writeback | CacheMode::Unsafe => access,
        }
    }

    fn check_kind(&self, found: &Found) -> Result<(), Refusal> {
        match found.kind {
            Kind::File | Kind::BlockDevice => Ok(()),
            Kind::Directory => Err(self.refuse("it is a directory", "name an image in it")),
            Kind::Socket => {
                Err(self.refuse("it is a socket", "a vhost-user backend is vhost-user=SOCKET"))
            }
            _ => Err(self.refuse("it is no file or block device", "name an image")),
        }
    }

    fn check_size(&self, file: &OwnedFd) -> Result<(), Refusal> {
        match bulkhead_sys::file::size(file) {
            Err(error) => Err(self.host(&error)),
            Ok(0) => Err(self.refuse("it is empty", "make it larger, as with truncate -s 1G")),
            Ok(size) if self.whole && !size.is_multiple_of(SECTOR) => Err(self.refuse(
                &format!("its size of {size} bytes is no multiple of 512"),
                "pad it, as with truncate -s %512",
            )),
            Ok(_) => Ok(()),
        }
    }

    fn host(&self, error: &std::io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(libc::EINVAL) if self.cache == CacheMode::None => {
                self.refuse("its file system has no direct I/O", "use cache=writeback")
            }
            Some(libc::EACCES | libc::EPERM) if !self.read_only => self.refuse(
                "you may not open it for writing",
                "check its permissions, or add readonly",
            ),
            _ => refuse_path(self.option, self.path, error),
        }
    }

    fn refuse(&self, reason: &str, remedy: &str) -> Refusal {
        refuse(self.option, self.path.display(), reason, remedy)
    }
}

fn locked(
    option: &str,
    path: &Path,
    identity: Identity,
    instances: &[InstanceRecord],
    before: &[Disk],
) -> Refusal {
    let is_it = |disk: &&Disk| match &disk.source {
        Source::Image(image) => image.identity == identity,
        Source::Foreign(_) => false,
    };
    let owner = match before.iter().find(is_it) {
        Some(disk) => format!("disk {} of this very instance", disk.id),
        None => owner::name(instances, identity),
    };
    let reason = format!("it is locked by {owner}");
    let remedy = "end that first, or open it readonly in both";
    refuse(option, path.display(), reason, remedy)
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
