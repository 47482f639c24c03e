//! From plan to live: nodes over the descriptors that the supervisor passed.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use bulkhead_protocol::block::{LayerFormat, NodePlan, Qcow2Plan, RemotePlan};
use bulkhead_protocol::device::DiskInfo;
use bulkhead_protocol::spec::CacheMode;

use super::Served;
use super::journal::{Kept, KeptError};
use crate::graph::Desk;
use crate::image::{Image, OpenError};
use crate::qcow2::journal::{Journal, Nothing};
use crate::qcow2::{self, Files, Layer, Options, Qcow2};
use crate::remote::RemoteError;

/// A chain of layers, open, and what the disk is.
#[derive(Debug)]
pub struct Opened {
    /// The top.
    pub top: Layer<Served>,
    /// What an export is told.
    pub info: DiskInfo,
}

/// Smallest clusters with direct I/O: metadata is read and written by pages.
const LEAST_DIRECT: u64 = 4096;

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
    /// A layer below.
    #[error("backing file {0}: {1}")]
    Backing(usize, Box<Refused>),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] KeptError),
    /// Direct I/O with tiny clusters.
    #[error("the image has clusters of {0} bytes, too small for cache=none; use cache=writeback")]
    Direct(u64),
    /// Half a sector.
    #[error("the disk has {0} bytes, which is no multiple of its block size of {1}")]
    Size(u64, u32),
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
    /// Opens a chain: a disk's, or a job's target.
    pub async fn open(&mut self, plan: &NodePlan) -> Result<Opened, Refused> {
        match plan {
            NodePlan::Raw { discard, read_only, .. } if self.is_remote(0) => {
                let (file, info) = self.file(0, CacheMode::Writeback, *discard, *read_only).await?;
                let (size, block) = (info.size, info.logical_block);
                if size == 0 || !size.is_multiple_of(block.into()) {
                    return Err(Refused::Size(size, block));
                }
                Ok(Opened { top: Layer::raw(file, size), info })
            }
            NodePlan::Raw { cache, discard, read_only } => {
                let image = Image::open(self.next()?, *cache, *discard, *read_only)?;
                let info = image.info();
                Ok(Opened { top: Layer::raw(self.serve(image), info.size), info })
            }
            NodePlan::Qcow2(plan) => self.qcow2(plan).await,
        }
    }

    fn next(&mut self) -> Result<OwnedFd, Refused> {
        self.fds.next().ok_or(Refused::Descriptor)
    }

    async fn qcow2(&mut self, plan: &Qcow2Plan) -> Result<Opened, Refused> {
        let Qcow2Plan { cache, discard, read_only, .. } = *plan;
        let (file, info) = self.file(0, cache, discard, read_only).await?;
        let data = match plan.data_file {
            true => Some(self.container(cache, discard, read_only)?),
            false => None,
        };
        let backing = self.chain(&plan.backing).await?;
        let journal: Box<dyn Journal> = match read_only {
            true => Box::new(Nothing),
            false => Box::new(Kept::open(&self.next()?)?),
        };
        let options = Options { read_only, discard, chain_given: true, ..Options::WRITE };
        let image = Qcow2::open(Files { file, data, backing }, journal, options).await?;
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
    async fn chain(
        &mut self,
        plan: &[bulkhead_protocol::block::LayerPlan],
    ) -> Result<Option<Layer<Served>>, Refused> {
        let mut files = Vec::new();
        for (number, layer) in plan.iter().enumerate() {
            let (file, _) = self.file(number + 1, CacheMode::Writeback, false, true).await?;
            let data = match layer.data_file {
                true => Some(self.container(CacheMode::Writeback, false, true)?),
                false => None,
            };
            files.push((layer.format, file, data));
        }
        let mut below = None;
        for (number, (format, file, data)) in files.into_iter().enumerate().rev() {
            let opened = layer(format, Files { file, data, backing: below }).await;
            below = Some(opened.map_err(|why| Refused::Backing(number + 1, Box::new(why)))?);
        }
        Ok(below)
    }

    fn is_remote(&self, layer: usize) -> bool {
        self.remotes.get(layer).is_some_and(Option::is_some)
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
            let image = Image::container(self.next()?, cache, discard, read_only)?;
            let info = image.info();
            return Ok((self.serve(image), info));
        };
        let remote = self.desk.remote(plan, self.next()?, read_only).await?;
        let info = remote.info(discard);
        Ok((Served::Remote(remote), info))
    }

    fn container(
        &mut self,
        cache: CacheMode,
        discard: bool,
        read_only: bool,
    ) -> Result<Served, Refused> {
        let image = Image::container(self.next()?, cache, discard, read_only)?;
        Ok(self.serve(image))
    }

    fn serve(&self, image: Image) -> Served {
        Served::new(image, Rc::clone(self.desk))
    }
}

async fn layer(format: LayerFormat, files: Files<Served>) -> Result<Layer<Served>, Refused> {
    match format {
        LayerFormat::Raw => {
            let size =
                crate::storage::Storage::size(&files.file).map_err(qcow2::OpenError::Host)?;
            Ok(Layer::raw(files.file, size))
        }
        LayerFormat::Qcow2 => {
            let image = Qcow2::open(
                files,
                Box::new(Nothing),
                Options { chain_given: true, ..Options::READ },
            )
            .await?;
            Ok(image.into())
        }
    }
}
