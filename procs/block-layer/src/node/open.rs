//! From plan to live: nodes over the descriptors that the supervisor passed.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use bulkhead_protocol::block::{
    LayerFormat, LayerNumber, LayerPlan, NodePlan, Qcow2Plan, RemotePlan,
};
use bulkhead_protocol::device::DiskInfo;
use bulkhead_protocol::spec::{CacheMode, Part};

use super::journal::{Kept, KeptError};
use super::{KeptSecret, SecretError, Served};
use crate::graph::Desk;
use crate::image::{Image, OpenError};
use crate::luks::UnlockError;
use crate::qcow2::journal::{Journal, Nothing};
use crate::qcow2::{self, Files, Layer, LuksLayer, Options, Qcow2, RawLayer};
use crate::remote::RemoteError;
use crate::storage::Storage;

/// A chain of layers, open, and what the disk is.
#[derive(Debug)]
pub struct Opened {
    /// The top.
    pub top: Layer<Served>,
    /// What an export is told.
    pub info: DiskInfo,
}

/// Smallest clusters with direct I/O: metadata is read and written by pages.
pub const LEAST_DIRECT: u64 = 4096;

/// Why a disk cannot be served. An event to the supervisor: the process is well.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its file.
    #[error(transparent)]
    Image(#[from] OpenError),
    /// Its format.
    #[error(transparent)]
    Qcow2(#[from] qcow2::OpenError),
    /// Its server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A server was not there. The disk may be as it should.
    #[error("{1}")]
    Away(LayerNumber, String),
    /// A layer below.
    #[error("backing file {0}: {1}")]
    Backing(usize, Box<Refused>),
    /// Its encryption.
    #[error(transparent)]
    Luks(#[from] UnlockError),
    /// Its secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] KeptError),
    /// Direct I/O with tiny clusters.
    #[error("the image has clusters of {0} bytes, too small for cache=none; use cache=writeback")]
    Direct(u64),
    /// Half a sector.
    #[error("the disk has {0} bytes, which is no multiple of its block size of {1}")]
    Size(u64, u32),
    /// A part that begins within a block.
    #[error("an offset of {0} is no multiple of the block size of {1}")]
    Offset(u64, u32),
    /// A part that the file does not have.
    #[error("the file has {there} bytes, and no {size} of them from {offset} on")]
    Part {
        /// The first byte.
        offset: u64,
        /// Bytes.
        size: u64,
        /// Bytes of the file.
        there: u64,
    },
    /// A reference of another size.
    #[error("its reference has {there} bytes and the disk {size}; give one of the same size")]
    Reference {
        /// Bytes of the reference.
        there: u64,
        /// Bytes of the disk.
        size: u64,
    },
    /// The plan has too few descriptors.
    #[error("the plan lacks a descriptor")]
    Descriptor,
}

/// What a graph is opened from.
pub struct Opening<'a, I> {
    /// Descriptors in the order of the plan.
    pub fds: &'a mut I,
    /// Of the graph.
    pub desk: &'a Rc<Desk>,
    /// For each layer from the top one, where on a server it lies; those behind the last lie in files.
    pub remotes: Vec<Option<RemotePlan>>,
}

impl<I: Iterator<Item = OwnedFd>> Opening<'_, I> {
    /// Opens a disk's chain. Whatever it was that could not be had of a server that is away, that is the reason.
    pub async fn open(&mut self, plan: &NodePlan) -> Result<Opened, Refused> {
        let opened = self.node(plan).await;
        opened.map_err(|refused| match (self.desk.missed(), refused) {
            (Some((layer, _)), Refused::Remote(error)) => Refused::Away(layer, error.to_string()),
            (Some((layer, why)), refused) => {
                Refused::Away(layer, format!("{refused} (the server: {why})"))
            }
            (None, refused) => refused,
        })
    }

    async fn node(&mut self, plan: &NodePlan) -> Result<Opened, Refused> {
        match plan {
            NodePlan::Raw { cache, discard, read_only, part } => {
                let (file, info) = self.file(0, *cache, *discard, *read_only).await?;
                let layer = raw(file, *part, info.logical_block)?;
                let size = layer.size();
                Ok(Opened { top: layer, info: DiskInfo { size, ..info } })
            }
            NodePlan::Luks { cache, read_only } => {
                let (file, info) = self.file(0, *cache, false, *read_only).await?;
                let secret = self.secret(true)?;
                let layer = luks(file, secret, info.logical_block).await?;
                let size = layer.size();
                Ok(Opened { top: layer, info: DiskInfo { size, discard: false, ..info } })
            }
            NodePlan::Null { size, read_only } => Ok(null(*size, *read_only)),
            NodePlan::Qcow2(plan) => self.qcow2(plan).await,
        }
    }

    /// A file that the disk is to be held against.
    pub fn reference(&self, file: OwnedFd, disk: &Opened) -> Result<Layer<Served>, Refused> {
        let DiskInfo { size, read_only, .. } = disk.info;
        let image = Image::container(file, CacheMode::Writeback, false, read_only)?;
        let there = image.info().size;
        match there == size {
            true => raw(self.serve(image), Part::default(), 1),
            false => Err(Refused::Reference { there, size }),
        }
    }

    /// The next descriptor of the plan.
    pub fn descriptor(&mut self) -> Result<OwnedFd, Refused> {
        self.fds.next().ok_or(Refused::Descriptor)
    }

    async fn qcow2(&mut self, plan: &Qcow2Plan) -> Result<Opened, Refused> {
        let Qcow2Plan { cache, discard, read_only, .. } = *plan;
        let (file, info) = self.file(0, cache, discard, read_only).await?;
        let data = match plan.data_file {
            true => Some(self.container(cache, discard, read_only)?),
            false => None,
        };
        let secret = self.secret(plan.secret)?;
        let backing = self.chain(&plan.backing).await?;
        let journal: Box<dyn Journal> = match read_only {
            true => Box::new(Nothing),
            false => Box::new(Kept::open(&self.descriptor()?)?),
        };
        let encrypted = secret.is_some();
        let options =
            Options { read_only, discard, encrypted, chain_given: true, ..Options::WRITE };
        let image = Qcow2::open(Files { file, data, backing }, journal, options).await?;
        if let Some(secret) = secret {
            secret.unlock_image(&image).await?;
        }
        let cluster = image.cluster_size();
        if cache == CacheMode::None && cluster < LEAST_DIRECT {
            return Err(Refused::Direct(cluster));
        }
        let size = image.size();
        if size == 0 || !size.is_multiple_of(info.logical_block.into()) {
            return Err(Refused::Size(size, info.logical_block));
        }
        Ok(Opened { top: image.into(), info: DiskInfo { size, ..info } })
    }

    /// The layers below, from the lowest up: the plan names the nearest first.
    async fn chain(&mut self, plan: &[LayerPlan]) -> Result<Option<Layer<Served>>, Refused> {
        let mut files = Vec::new();
        for (number, layer) in plan.iter().enumerate() {
            let (file, _) = self.file(number + 1, CacheMode::Writeback, false, true).await?;
            let data = match layer.data_file {
                true => Some(self.container(CacheMode::Writeback, false, true)?),
                false => None,
            };
            files.push((*layer, file, data, self.secret(layer.secret)?));
        }
        let mut below = None;
        for (number, (plan, file, data, secret)) in files.into_iter().enumerate().rev() {
            let opened = layer(plan, Files { file, data, backing: below }, secret).await;
            below = Some(opened.map_err(|why| Refused::Backing(number + 1, Box::new(why)))?);
        }
        Ok(below)
    }

    /// The next layer's file, or what it is on its server.
    async fn file(
        &mut self,
        layer: usize,
        cache: CacheMode,
        discard: bool,
        read_only: bool,
    ) -> Result<(Served, DiskInfo), Refused> {
        let Some(plan) = self.remotes.get_mut(layer).and_then(Option::take) else {
            let image = Image::container(self.descriptor()?, cache, discard, read_only)?;
            let info = image.info();
            return Ok((self.serve(image), info));
        };
        let remote = self.desk.remote(plan, self.descriptor()?, read_only).await?;
        let info = remote.info(discard);
        Ok((Served::Remote(remote), info))
    }

    fn container(
        &mut self,
        cache: CacheMode,
        discard: bool,
        read_only: bool,
    ) -> Result<Served, Refused> {
        let image = Image::container(self.descriptor()?, cache, discard, read_only)?;
        Ok(self.serve(image))
    }

    fn secret(&mut self, given: bool) -> Result<Option<KeptSecret>, Refused> {
        Ok(if given { Some(KeptSecret::open(&self.descriptor()?)?) } else { None })
    }

    fn serve(&self, image: Image) -> Served {
        Served::new(image, Rc::clone(self.desk))
    }
}

/// A raw image that is a part of its file. One without bounds may end within a block where it is a
/// backing file (`block` is 1): what lies above has a size of its own.
fn raw(file: Served, part: Part, block: u32) -> Result<Layer<Served>, Refused> {
    let there = file.size().map_err(qcow2::OpenError::Host)?;
    let Part { offset, size: wanted } = part;
    let size = wanted.unwrap_or(there.saturating_sub(offset));
    let beyond = offset > 0 && offset >= there;
    if beyond || offset.checked_add(size).is_none_or(|end| end > there) {
        return Err(Refused::Part { offset, size, there });
    }
    if !offset.is_multiple_of(block.into()) {
        return Err(Refused::Offset(offset, block));
    }
    if (size == 0 && block > 1) || !size.is_multiple_of(block.into()) {
        return Err(Refused::Size(size, block));
    }
    Ok(Layer::Raw(Rc::new(RawLayer::new(file, offset, size, wanted.is_some()))))
}

async fn luks(
    file: Served,
    secret: Option<KeptSecret>,
    block: u32,
) -> Result<Layer<Served>, Refused> {
    let secret = secret.ok_or(Refused::Descriptor)?;
    let volume = secret.unlock(&file, 0, None).await?;
    let layer = LuksLayer::new(file, volume).map_err(qcow2::OpenError::Host)?;
    if !layer.start().is_multiple_of(block.into()) {
        return Err(Refused::Offset(layer.start(), block));
    }
    let layer = Layer::from(layer);
    match layer.size() {
        size if size == 0 || !size.is_multiple_of(block.into()) => Err(Refused::Size(size, block)),
        _ => Ok(layer),
    }
}

fn null(size: u64, read_only: bool) -> Opened {
    let info = DiskInfo {
        size,
        logical_block: 512,
        physical_block: 4096,
        optimal_io: 0,
        read_only,
        discard: !read_only,
        flush: !read_only,
    };
    Opened { top: Layer::Null(size), info }
}

async fn layer(
    plan: LayerPlan,
    files: Files<Served>,
    secret: Option<KeptSecret>,
) -> Result<Layer<Served>, Refused> {
    match plan.format {
        LayerFormat::Luks => luks(files.file, secret, 1).await,
        LayerFormat::Raw => raw(files.file, plan.part, 1),
        LayerFormat::Qcow2 => {
            let encrypted = secret.is_some();
            let options = Options { encrypted, chain_given: true, ..Options::READ };
            let image = Qcow2::open(files, Box::new(Nothing), options).await?;
            if let Some(secret) = secret {
                secret.unlock_image(&image).await?;
            }
            Ok(image.into())
        }
    }
}
