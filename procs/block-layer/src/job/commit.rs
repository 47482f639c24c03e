//! Commit: pushes what layers have down into one below them, which then stands in for them all.
//!
//! Of layers below the top nothing changes meanwhile: they are copied once, and leave the chain. The top
//! itself (an *active* commit) goes on changing: the base follows it as a mirror's target does, and takes
//! its place when the job is told to complete.
//!
//! A successor begins it again: copying twice what a layer has is harmless, since that layer still hides
//! the base.

use std::rc::Rc;

use super::control::{Control, Ended, Side};
use super::copy::{LONGEST, copy};
use super::mirror::pursuit::Pursuit;
use super::{BackingName, CopyMode, Following, Host};
use crate::disk::{Change, Disk};
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::Storage;

/// Bytes by which changes of an active layer are marked where the base has no clusters.
const GRANULARITY: u64 = 64 << 10;

/// The job.
#[derive(Debug)]
pub struct Commit<S> {
    /// Whose chain it is.
    pub disk: Rc<Disk<S>>,
    /// The first layer that is pushed down. The disk's top: an active commit.
    pub top: Layer<S>,
    /// The layer that takes it all: below `top`, and writable.
    pub base: Layer<S>,
    /// What the layer above `top` is to name as its backing file. The top has no such layer.
    pub name: Option<BackingName>,
    /// The file of the layer above, opened for writing, if the disk only reads that layer.
    pub header: Option<S>,
}

impl<S: Storage> Commit<S> {
    pub(super) async fn run(self, control: &Rc<Control>, host: &impl Host<S>) -> Result<(), Ended> {
        if self.top.depth_of(&self.base).is_none_or(|depth| depth == 0) {
            return Err(Failure::INVALID.into());
        }
        Self::refuse(&self.disk, &self.top, &self.base).map_err(|_| Failure::INVALID)?;
        let size = self.top.size();
        if self.base.size() < size {
            let resize = async || {
                let resized = self.base.resize(size).await;
                resized.map_err(|failure| (Side::Target, failure))
            };
            control.insist(resize).await?;
        }
        match self.disk.top().is(&self.top) {
            true => self.run_active(control, host).await,
            false => self.run_below(control, host).await,
        }
    }

    /// What is wrong with such a commit, if anything is: for whoever is to be told before the base is opened.
    pub fn refuse(disk: &Disk<S>, top: &Layer<S>, base: &Layer<S>) -> Result<(), String> {
        let above = above(&disk.top(), top);
        let (base, top) = (base.size(), top.size());
        // Above a layer that is shorter than the base, zeroes were read where the base has something.
        let is_seen = above.is_none_or(|above| above.size() > top);
        match base > top && is_seen {
            true => Err(format!(
                "the base has {base} bytes and what is committed {top}: what lies behind that would come to light"
            )),
            false => Ok(()),
        }
    }

    async fn run_active(&self, control: &Rc<Control>, host: &impl Host<S>) -> Result<(), Ended> {
        let granularity = self.base.cluster_size().map_or(GRANULARITY, |size| size.max(4096));
        let following = Following::new(
            self.base.clone(),
            Some(self.base.clone()),
            granularity,
            CopyMode::Background,
            Rc::clone(control),
        );
        let pursuit = Pursuit::begin(&self.disk, &Rc::new(following)).await;
        pursuit.mark_all().await?;
        let change = |top: &Layer<S>| {
            let to = top.depth_of(&self.base)?;
            Some(Change::Drop { from: 0, to })
        };
        pursuit.run(host, change).await
    }

    async fn run_below(&self, control: &Rc<Control>, host: &impl Host<S>) -> Result<(), Ended> {
        let size = self.top.size();
        control.set_remaining(size);
        let (mut at, mut cost) = (0, 0);
        while at < size {
            control.step(cost).await?;
            let base = self.top.depth_of(&self.base);
            let len = (size - at).min(LONGEST);
            let piece = match self.top.piece(at, len).await {
                Ok(piece) => piece,
                Err(failure) => {
                    control.failed(Side::Source, failure).await?;
                    continue;
                }
            };
            let copies = piece.is_above(base);
            if copies {
                let copy =
                    async || copy(&self.top, &self.base, Some(&self.base), at, piece.len).await;
                control.insist(copy).await?;
            }
            cost = if copies { piece.len } else { 0 };
            at += piece.len;
            control.progress(piece.len);
        }
        self.finish(control, host).await
    }

    async fn finish(&self, control: &Control, host: &impl Host<S>) -> Result<(), Ended> {
        let flush = async || {
            let flushed = self.base.flush().await;
            flushed.map_err(|failure| (Side::Target, failure))
        };
        control.insist(flush).await?;
        control.set_pending()?;
        let drained = self.disk.drain().await;
        let chain = self.disk.top();
        let from = chain.depth_of(&self.top).ok_or(Failure::INVALID)?;
        let to = chain.depth_of(&self.base).ok_or(Failure::INVALID)?;
        if let (Some(Layer::Qcow2(above)), Some(name)) = (above(&chain, &self.top), &self.name) {
            let name = Some((name.name.as_str(), name.format.as_str()));
            match &self.header {
                None => above.name_backing(name).await?,
                Some(file) => above.name_backing_through(file, name).await?,
            }
        }
        // Once it is written down, whoever comes after a death only reads the base, without its journal.
        self.base.close().await?;
        let _told_by_its_header = self.base.shut().await;
        let change = Change::Drop { from, to };
        host.switch(&change).await?;
        self.disk.apply(&change, &drained);
        Ok(())
    }
}

/// The layer of a chain whose backing file `layer` is; the disk's top is nobody's.
fn above<S: Storage>(chain: &Layer<S>, layer: &Layer<S>) -> Option<Layer<S>> {
    let above = chain.depth_of(layer)?.checked_sub(1)?;
    chain.chain().nth(above)
}
