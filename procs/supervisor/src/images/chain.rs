//! The files of a disk: what a block-layer's plan is made from, and so the record by which a graph outlives
//! the process that serves it.
//!
//! Made by the plan, changed by [`crate::live`] when a block-layer says that it is about to go over to
//! another chain. A layer's number is never given to another file of the same disk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_protocol::block::{
    JOURNAL_BYTES, LayerFormat, LayerNumber, LayerPlan, NamedLayer, NodePlan, Qcow2Plan, RemotePlan,
};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{CacheMode, Part};
use nix::fcntl::OFlag;

use super::lock::LockError;
use super::remote::Remote;
use super::take::{LockedFile, Wanted};
use crate::open::{Identity, reopen};

/// A layer.
#[derive(Debug)]
pub struct Layer {
    /// Its number.
    pub number: LayerNumber,
    /// As the user wrote it.
    pub path: PathBuf,
    /// Its format.
    pub format: LayerFormat,
    /// Where its bytes are.
    pub place: Place,
    /// Its external data file.
    pub data_file: Option<LockedFile>,
    /// Its passphrase or key, if it is encrypted.
    pub secret: Option<OwnedFd>,
    /// Which bytes of its file are the disk, if it is raw.
    pub part: Part,
    /// What its block-layer has not written into it yet, while it is written.
    pub journal: Option<OwnedFd>,
}

/// Where the bytes of a layer are.
#[derive(Debug)]
pub enum Place {
    /// A file or block device.
    File(LockedFile),
    /// An export of a server.
    Remote(Box<Remote>),
}

impl Place {
    /// Its descriptor as block-layers get it; none while no socket is prepared.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::File(file) => Some(file.file.as_fd()),
            Self::Remote(remote) => remote.socket(),
        }
    }
}

/// The files of one layer, opened for reading.
#[derive(Debug)]
pub struct Readers(Vec<OwnedFd>);

/// The files of a disk, the top layer first.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Layer>,
    next: LayerNumber,
    /// Without layers: bytes of a disk of zeroes.
    zeroes: u64,
}

/// How the top layer is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Host caching.
    pub cache: CacheMode,
    /// Whether discards reach the image.
    pub discard: bool,
    /// Refuse writes.
    pub read_only: bool,
}

impl Layer {
    /// Whether it is this object, or has it as its data file.
    pub fn is(&self, identity: Identity) -> bool {
        self.files().any(|file| file.identity == identity)
    }

    /// Its files: itself and its data file, as far as they are files.
    pub fn files(&self) -> impl Iterator<Item = &LockedFile> {
        let own = match &self.place {
            Place::File(file) => Some(file),
            Place::Remote(_) => None,
        };
        own.into_iter().chain(&self.data_file)
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut LockedFile> {
        let own = match &mut self.place {
            Place::File(file) => Some(file),
            Place::Remote(_) => None,
        };
        own.into_iter().chain(&mut self.data_file)
    }

    /// The server that it lies on.
    pub fn remote(&self) -> Option<&Remote> {
        match &self.place {
            Place::Remote(remote) => Some(remote),
            Place::File(_) => None,
        }
    }

    /// The server that it lies on.
    pub fn remote_mut(&mut self) -> Option<&mut Remote> {
        match &mut self.place {
            Place::Remote(remote) => Some(remote),
            Place::File(_) => None,
        }
    }

    /// Gives it a journal, as writers of formats with metadata need one.
    pub fn make_journal(&mut self) -> io::Result<()> {
        if self.format == LayerFormat::Qcow2 && self.journal.is_none() {
            self.journal = Some(bulkhead_sys::memfd::create_sealed("journal", JOURNAL_BYTES)?);
        }
        Ok(())
    }

    /// Its number, name and format.
    pub fn named(&self) -> NamedLayer {
        let name = self.path.to_string_lossy().into_owned();
        NamedLayer { layer: self.number, name, format: self.format }
    }

    /// Its own file.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.place.fd()
    }

    /// Its descriptors as a layer that is written: file, data file, journal.
    pub fn written_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.read_fds().chain(self.journal.iter().map(AsFd::as_fd))
    }

    fn read_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.place.fd().into_iter().chain(self.data_file.as_ref().map(|file| file.file.as_fd()))
    }

    /// Opens it for writing and locks it so, and gives it a journal. On an error it is as it was.
    pub fn open_for_writing(&mut self, option: &str, cache: CacheMode) -> Result<(), Refusal> {
        let path = self.path.clone();
        let wanted = Wanted { option, path: &path, cache, read_only: false };
        let host = |error: io::Error| wanted.host(&error);
        if self.remote().is_some() {
            let remedy = "commit into a file, or copy the disk by a job";
            return Err(wanted.refuse("it lies on a server and is only read", remedy));
        }
        let fresh = self.files().map(|file| reopen(&file.file, wanted.flags()));
        let fresh = fresh.collect::<io::Result<Vec<_>>>().map_err(host)?;
        let had_journal = self.journal.is_some();
        self.make_journal().map_err(host)?;
        let widened = self.widen(fresh);
        if widened.is_err() && !had_journal {
            self.journal = None;
        }
        widened.map_err(|error| match error {
            LockError::Taken => wanted.refuse("another program uses it", "end that program first"),
            LockError::Host(error) => wanted.host(&error),
        })
    }

    /// Locks all of its files for writing, or none of them: `fresh` are their descriptions then.
    fn widen(&mut self, fresh: Vec<OwnedFd>) -> Result<(), LockError> {
        let mut readers = Vec::new();
        let widened = self.files_mut().zip(fresh).try_for_each(|(file, fresh)| {
            file.lock.widen(file.file.as_fd(), fresh.as_fd())?;
            readers.push(std::mem::replace(&mut file.file, fresh));
            Ok(())
        });
        if widened.is_err() {
            self.narrow(readers);
        }
        widened
    }

    /// The first of its files are locked for reading, with these descriptions.
    fn narrow(&mut self, readers: Vec<OwnedFd>) {
        for (file, fresh) in self.files_mut().zip(readers) {
            // A lock that cannot be made narrower stays as it is: it keeps more programs out, not fewer.
            let _ = file.lock.narrow(file.file.as_fd(), fresh.as_fd());
            file.file = fresh;
        }
    }

    /// Its files once more, for reading.
    pub fn readers(&self) -> io::Result<Readers> {
        self.files()
            .map(|file| reopen(&file.file, OFlag::O_RDONLY))
            .collect::<io::Result<_>>()
            .map(Readers)
    }

    /// From now on it is only read: others may read it as well.
    pub fn only_read(&mut self, readers: Readers) {
        self.narrow(readers.0);
        self.journal = None;
    }
}

impl Chain {
    /// A chain of these layers, numbered from the top.
    pub fn new(mut layers: Vec<Layer>) -> Self {
        for (layer, number) in layers.iter_mut().zip(0..) {
            layer.number = number;
        }
        let next = layers.len() as LayerNumber;
        Self { layers, next, zeroes: 0 }
    }

    /// No files: `size` zeroes.
    pub fn of_zeroes(size: u64) -> Self {
        Self { layers: Vec::new(), next: 0, zeroes: size }
    }

    /// The top layer.
    pub fn top(&self) -> Option<&Layer> {
        self.layers.first()
    }

    /// The layers, the top one first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer of a number.
    pub fn layer_mut(&mut self, number: LayerNumber) -> Option<&mut Layer> {
        self.layers.iter_mut().find(|layer| layer.number == number)
    }

    /// The layer whose path is this, or that is this object.
    pub fn find(&self, path: &Path) -> Option<&Layer> {
        let by_name = self.layers.iter().find(|layer| layer.path == path);
        by_name.or_else(|| {
            let identity = crate::open::find(path).ok()?.identity();
            self.layers.iter().find(|layer| layer.is(identity))
        })
    }

    /// The same, to be changed.
    pub fn layers_mut(&mut self) -> std::slice::IterMut<'_, Layer> {
        self.layers.iter_mut()
    }

    /// What a block-layer is told of layers that lie on servers.
    pub fn remotes(&self) -> Vec<RemotePlan> {
        let plan = |layer: &Layer| layer.remote().map(|remote| remote.plan(layer.number));
        self.layers.iter().filter_map(plan).collect()
    }

    /// A number for another layer.
    pub fn number(&mut self) -> LayerNumber {
        self.next += 1;
        self.next - 1
    }

    /// A new top layer.
    pub fn push(&mut self, layer: Layer) {
        self.layers.insert(0, layer);
    }

    /// Goes over to the layers of `numbers`, among which may be `more`; the layers that leave. An error
    /// names a number that is none, and then nothing has changed.
    pub fn change(
        &mut self,
        numbers: &[LayerNumber],
        more: Option<Layer>,
    ) -> Result<Vec<Layer>, LayerNumber> {
        let known = |number: &LayerNumber| {
            self.layers.iter().chain(&more).any(|layer| layer.number == *number)
        };
        let twice = |at: usize| numbers.iter().take(at).any(|other| Some(other) == numbers.get(at));
        if let Some(at) = (0..numbers.len()).find(|at| twice(*at)) {
            return Err(numbers.get(at).copied().unwrap_or_default());
        }
        if let Some(stranger) = numbers.iter().find(|number| !known(number)) {
            return Err(*stranger);
        }
        let mut all: Vec<Layer> = self.layers.drain(..).chain(more).collect();
        for number in numbers {
            if let Some(at) = all.iter().position(|layer| layer.number == *number) {
                self.layers.push(all.remove(at));
            }
        }
        Ok(all)
    }

    /// Makes it the top layer's alone to be written.
    pub fn prepare(&mut self) -> io::Result<()> {
        self.layers.first_mut().map_or(Ok(()), Layer::make_journal)
    }

    /// The names of its layers.
    pub fn named(&self) -> Vec<NamedLayer> {
        self.layers.iter().map(Layer::named).collect()
    }

    /// The graph of a block-layer that serves it.
    pub fn plan(&self, service: Service) -> NodePlan {
        let Service { cache, discard, read_only } = service;
        let Some((top, below)) = self.layers.split_first() else {
            return NodePlan::Null { size: self.zeroes, read_only };
        };
        match top.format {
            LayerFormat::Raw => {
                return NodePlan::Raw { cache, discard, read_only, part: top.part };
            }
            LayerFormat::Luks => return NodePlan::Luks { cache, read_only },
            LayerFormat::Qcow2 => {}
        }
        let layer = |layer: &Layer| LayerPlan {
            format: layer.format,
            data_file: layer.data_file.is_some(),
            part: layer.part,
            secret: layer.secret.is_some(),
        };
        NodePlan::Qcow2(Qcow2Plan {
            cache,
            discard,
            read_only,
            data_file: top.data_file.is_some(),
            secret: top.secret.is_some(),
            backing: below.iter().map(layer).collect(),
        })
    }

    /// Its descriptors in the order of that plan.
    pub fn fds(&self, service: Service) -> Vec<BorrowedFd<'_>> {
        let fds = |layer| Layer::read_fds(layer).chain(layer.secret.iter().map(AsFd::as_fd));
        let mut fds: Vec<_> = self.layers.iter().flat_map(fds).collect();
        let journal = self.layers.first().and_then(|top| top.journal.as_ref());
        fds.extend(journal.filter(|_| !service.read_only).map(AsFd::as_fd));
        fds
    }
}

/// Bytes that a file takes on the host.
pub fn allocated(file: impl AsFd) -> u64 {
    let stat = nix::sys::stat::fstat(file.as_fd());
    stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

#[cfg(test)]
mod tests;
