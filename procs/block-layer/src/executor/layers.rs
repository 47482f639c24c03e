//! Files that come while the disk is served: overlays, targets of jobs, bases that are to be written.
//!
//! A new image's header is written here and not by the supervisor, which knows no format.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_protocol::block::{LayerFormat, NamedLayer, TargetPlan};
use bulkhead_protocol::spec::CacheMode;

use crate::clock::Clock;
use crate::graph::Desk;
use crate::image::Image;
use crate::node::journal::Kept;
use crate::node::{LEAST_DIRECT, Refused, Served};
use crate::qcow2::create::{CreateError, Wanted, create};
use crate::qcow2::{Files, Layer, Options, Qcow2};
use crate::storage::Storage;

/// Bytes of a cluster unless the user says otherwise.
const CLUSTER: u64 = 64 << 10;

/// How long a server may take to let its export be opened, after the handshake. Meanwhile no other change of the graph
/// begins, and whoever has asked for it waits for ten seconds in all.
const OPENING: Duration = Duration::from_secs(4);

/// Why a layer cannot be had. Told to the user in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It cannot be opened.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A target that nobody has given a key for.
    #[error("an encrypted file cannot be a target yet; write raw or qcow2")]
    Encrypted,
    /// Its server says nothing.
    #[error("its server does not answer within {} seconds; see what it is doing", OPENING.as_secs())]
    Silent,
    /// It wants larger requests than the disk's users know of.
    #[error(
        "it is written by blocks of {0} bytes and the disk has blocks of {1}; give a file of another file system or device"
    )]
    Blocks(u32, u32),
    /// It has another size than the disk.
    #[error("it has {0} bytes and the disk {1}; give one of the same size")]
    Size(u64, u64),
}

/// What a target is opened with.
pub struct Opening<'a> {
    /// Of the graph.
    pub desk: &'a Rc<Desk>,
    /// Bytes of the disk.
    pub size: u64,
    /// Clusters that become free are given back.
    pub discard: bool,
    /// Bytes of the disk's blocks, if what is opened may take its place: a guest that knows of them asks for no
    /// less, and a successor opens nothing that wants more.
    pub block: Option<u32>,
    /// A predecessor had it, and may have written it.
    pub inherited: bool,
}

/// An open target, and whether it was just made and so reads as zeroes.
pub type Target = (Layer<Served>, bool);

impl Opening<'_> {
    /// Opens a target, or makes it. `below` is the layer under it, with its name.
    pub async fn target(
        &self,
        plan: &TargetPlan,
        fds: &mut impl Iterator<Item = OwnedFd>,
        below: Option<(Layer<Served>, NamedLayer)>,
    ) -> Result<Target, LayerError> {
        let Some(remote) = &plan.remote else {
            let file = self.file(fds, plan.cache)?;
            return self.target_in(file, plan, fds, below).await;
        };
        let socket = fds.next().ok_or(Refused::Descriptor)?;
        let opened = self.desk.remote((**remote).clone(), socket, false).await;
        let remote = opened.map_err(Refused::from)?;
        remote.expire(Some(self.desk.now() + OPENING));
        let target = self.target_in(Served::Remote(remote.clone()), plan, fds, below).await;
        remote.expire(None);
        match remote.is_abandoned() {
            true => Err(LayerError::Silent),
            false => target,
        }
    }

    async fn target_in(
        &self,
        file: Served,
        plan: &TargetPlan,
        fds: &mut impl Iterator<Item = OwnedFd>,
        below: Option<(Layer<Served>, NamedLayer)>,
    ) -> Result<Target, LayerError> {
        let (layer, is_new) = match plan.named.format {
            LayerFormat::Raw => {
                let size = file.size().map_err(crate::qcow2::OpenError::Host);
                let size = size.map_err(Refused::from)?;
                (Layer::raw(file, size), plan.create.is_some() && !self.inherited)
            }
            LayerFormat::Luks => return Err(LayerError::Encrypted),
            LayerFormat::Qcow2 => {
                let journal = Kept::open(&fds.next().ok_or(Refused::Descriptor)?);
                let journal = journal.map_err(Refused::from)?;
                // A predecessor may have made it already.
                let size = file.size().map_err(crate::qcow2::OpenError::Host);
                let empty = size.map_err(Refused::from)? == 0;
                let (layer, name) = below.unzip();
                if let Some(cluster) = plan.create.filter(|_| empty) {
                    self.make(&file, cluster, name).await?;
                }
                let options =
                    Options { discard: self.discard, chain_given: true, ..Options::WRITE };
                let files = Files { file, data: None, backing: layer };
                let image = Qcow2::open(files, Box::new(journal), options).await;
                let image = image.map_err(Refused::from)?;
                (image.into(), plan.create.is_some() && empty)
            }
        };
        let checked = match layer.size() == self.size {
            true => check_clusters(&layer, plan.cache).map_err(LayerError::from),
            false => Err(LayerError::Size(layer.size(), self.size)),
        };
        if checked.is_err() {
            // It is somebody's image, and was only opened.
            let _told_by_its_header = layer.shut().await;
        }
        checked.map(|()| (layer, is_new))
    }

    /// Opens a layer of the chain once more, to be written. `like` is the one that it takes the place of.
    pub async fn writable(
        &self,
        like: &Layer<Served>,
        cache: CacheMode,
        data_file: bool,
        journal: bool,
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<Layer<Served>, LayerError> {
        let file = self.file(fds, cache)?;
        let data = data_file.then(|| self.file(fds, cache)).transpose()?;
        if !journal {
            let wants = file.image().map_or(1, |image| image.info().logical_block);
            let (layer, start) = match like {
                Layer::Raw(raw) => (Layer::Raw(Rc::new(raw.again(file))), raw.start()),
                Layer::Luks(volume) => (volume.again(file).into(), volume.start()),
                Layer::Qcow2(_) | Layer::Null(_) => return Err(Refused::Descriptor.into()),
            };
            return match start.is_multiple_of(wants.into()) || self.block.is_none() {
                true => Ok(layer),
                false => Err(Refused::Offset(start, wants).into()),
            };
        }
        let journal = Kept::open(&fds.next().ok_or(Refused::Descriptor)?).map_err(Refused::from)?;
        let cipher = match like {
            Layer::Qcow2(image) => image.cipher(),
            Layer::Raw(_) | Layer::Luks(_) | Layer::Null(_) => None,
        };
        let (discard, encrypted) = (self.discard, cipher.is_some());
        let options = Options { discard, encrypted, chain_given: true, ..Options::WRITE };
        let files = Files { file, data, backing: like.backing() };
        let image = Qcow2::open(files, Box::new(journal), options).await;
        let image = image.map_err(Refused::from)?;
        if let Some(cipher) = cipher {
            image.set_cipher(cipher);
        }
        let layer = image.into();
        if let Err(refused) = check_clusters(&layer, cache) {
            let _told_by_its_header = layer.shut().await;
            return Err(refused.into());
        }
        Ok(layer)
    }

    /// The file of a layer whose header is to be written, and nothing else of it.
    pub fn header(&self, fds: &mut impl Iterator<Item = OwnedFd>) -> Result<Served, LayerError> {
        self.file(fds, CacheMode::Writeback)
    }

    async fn make(
        &self,
        file: &Served,
        cluster: u32,
        below: Option<NamedLayer>,
    ) -> Result<(), LayerError> {
        let backing_format = below.as_ref().map(|below| format_name(below.format).to_owned());
        let wanted = Wanted {
            size: self.size,
            cluster_size: if cluster == 0 { CLUSTER } else { cluster.into() },
            backing: below.map(|below| below.name),
            backing_format,
            ..Wanted::default()
        };
        create(file, &wanted).await?;
        Ok(file.sync().await.map_err(CreateError::Host)?)
    }

    fn file(
        &self,
        fds: &mut impl Iterator<Item = OwnedFd>,
        cache: CacheMode,
    ) -> Result<Served, LayerError> {
        let file = fds.next().ok_or(Refused::Descriptor)?;
        let image = Image::container(file, cache, self.discard, false).map_err(Refused::from)?;
        check_blocks(self.block, image.info().logical_block)?;
        Ok(Served::new(image, Rc::clone(self.desk)))
    }
}

/// As when a disk is opened, so that a successor can open it.
fn check_clusters(layer: &Layer<Served>, cache: CacheMode) -> Result<(), Refused> {
    match layer.cluster_size() {
        Some(cluster) if cache == CacheMode::None && cluster < LEAST_DIRECT => {
            Err(Refused::Direct(cluster))
        }
        _ => Ok(()),
    }
}

/// A disk of such blocks may lie in a file that wants requests of `wants` bytes.
fn check_blocks(disk: Option<u32>, wants: u32) -> Result<(), LayerError> {
    match disk {
        Some(block) if !block.is_multiple_of(wants) => Err(LayerError::Blocks(wants, block)),
        _ => Ok(()),
    }
}

/// A format's name in a header.
pub fn format_name(format: LayerFormat) -> &'static str {
    match format {
        LayerFormat::Raw => "raw",
        LayerFormat::Qcow2 => "qcow2",
        LayerFormat::Luks => "luks",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_the_disk_wants_no_larger_blocks_than_its_users_know_of() {
        for (disk, wants) in [(512, 512), (4096, 512), (4096, 4096)] {
            assert!(check_blocks(Some(disk), wants).is_ok(), "{disk} {wants}");
        }
        let refused = check_blocks(Some(512), 4096).unwrap_err();
        assert!(refused.to_string().contains("blocks of 4096 bytes"), "{refused}");
        assert!(check_blocks(None, 4096).is_ok(), "a backup's target");
    }
}
