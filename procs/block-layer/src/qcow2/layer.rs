//! One layer of a chain of backing files, and all that are below it.
//!
//! A layer is a format over storage. It is shared: clones are the same layer, and whoever holds one
//! keeps it open. Disks have one as their top, images one as their backing, jobs hold those they copy
//! between. What stands in front of a chain (throttling, faults, watchers) belongs to the
//! [`disk`](crate::disk).
//!
//! Law: writes of different callers to the same bytes at the same time are in no order. Who copies into a
//! layer that others write uses [`Layer::adopt`], which never replaces what is there already.

mod luks;
mod raw;
mod walk;

use std::rc::Rc;

use super::Qcow2;
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

pub use luks::LuksLayer;
pub use raw::RawLayer;
pub use walk::{Held, Piece};

/// A disk that others build on.
#[derive(Debug)]
pub enum Layer<S> {
    /// Bytes as they are.
    Raw(Rc<RawLayer<S>>),
    /// Bytes in encrypted sectors.
    Luks(Rc<LuksLayer<S>>),
    /// An image.
    Qcow2(Rc<Qcow2<S>>),
    /// This many zeroes. What is written is forgotten: for measuring what is above it.
    Null(u64),
}

impl<S> Clone for Layer<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Raw(raw) => Self::Raw(Rc::clone(raw)),
            Self::Luks(volume) => Self::Luks(Rc::clone(volume)),
            Self::Qcow2(image) => Self::Qcow2(Rc::clone(image)),
            Self::Null(size) => Self::Null(*size),
        }
    }
}

impl<S: Storage> From<Qcow2<S>> for Layer<S> {
    fn from(image: Qcow2<S>) -> Self {
        Self::Qcow2(Rc::new(image))
    }
}

impl<S: Storage> From<LuksLayer<S>> for Layer<S> {
    fn from(volume: LuksLayer<S>) -> Self {
        Self::Luks(Rc::new(volume))
    }
}

impl<S: Storage> Layer<S> {
    /// `size` bytes of a file as they are.
    pub fn raw(storage: S, size: u64) -> Self {
        Self::Raw(Rc::new(RawLayer::new(storage, 0, size, false)))
    }

    /// Whether both are the same layer.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Raw(one), Self::Raw(other)) => Rc::ptr_eq(one, other),
            (Self::Luks(one), Self::Luks(other)) => Rc::ptr_eq(one, other),
            (Self::Qcow2(one), Self::Qcow2(other)) => Rc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw(raw) => raw.size(),
            Self::Luks(volume) => volume.size(),
            Self::Qcow2(image) => image.size(),
            Self::Null(size) => *size,
        }
    }

    /// The unit in which it is mapped: an image's clusters.
    pub fn cluster_size(&self) -> Option<u64> {
        match self {
            Self::Qcow2(image) => Some(image.cluster_size()),
            Self::Raw(_) | Self::Luks(_) | Self::Null(_) => None,
        }
    }

    /// The next layer.
    pub fn backing(&self) -> Option<Self> {
        match self {
            Self::Qcow2(image) => image.backing(),
            Self::Raw(_) | Self::Luks(_) | Self::Null(_) => None,
        }
    }

    /// Another next layer, or none. The header goes on naming the old one; see
    /// [`Qcow2::name_backing`]. Only while nothing is under way that may still need the old one's
    /// bytes in place of the new one's.
    pub fn set_backing(&self, backing: Option<Self>) {
        if let Self::Qcow2(image) = self {
            image.set_backing(backing);
        }
    }

    /// This layer and those below, from here down.
    pub fn chain(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::backing)
    }

    /// How far below this layer `other` is; 0: it is this one.
    pub fn depth_of(&self, other: &Self) -> Option<usize> {
        self.chain().position(|layer| layer.is(other))
    }

    /// Fills `into`; what lies beyond the end of the disk is zeroes.
    pub async fn read(&self, at: u64, into: Memory) -> Outcome {
        let there = self.size().saturating_sub(at).min(into.len());
        if there < into.len() {
            into.part(there, into.len()).zero()?;
        }
        if there == 0 {
            return Ok(());
        }
        match self {
            Self::Raw(raw) => raw.read(at, into.part(0, there)).await,
            Self::Luks(volume) => volume.read(at, into.part(0, there)).await,
            Self::Qcow2(image) => Box::pin(image.read(at, into.part(0, there))).await,
            Self::Null(_) => into.zero(),
        }
    }

    /// Writes `from`. The range lies in the disk.
    pub async fn write(&self, at: u64, from: Memory) -> Outcome {
        match self {
            Self::Raw(raw) => raw.write(at, from).await,
            Self::Luks(volume) => volume.write(at, from).await,
            Self::Qcow2(image) => image.write(at, from).await,
            Self::Null(_) => Ok(()),
        }
    }

    /// The range reads as zeroes; with `unmap` it may be given back.
    pub async fn zero(&self, at: u64, len: u64, unmap: bool) -> Outcome {
        match self {
            Self::Raw(raw) => raw.zero(at, len, unmap).await,
            Self::Luks(volume) => volume.zero(at, len).await,
            Self::Qcow2(image) => image.zero(at, len, unmap).await,
            Self::Null(_) => Ok(()),
        }
    }

    /// The range is no longer needed.
    pub async fn discard(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Raw(raw) => raw.discard(at, len).await,
            // What was given back would read as rubbish.
            Self::Luks(_) => Ok(()),
            Self::Qcow2(image) => image.discard(at, len).await,
            Self::Null(_) => Ok(()),
        }
    }

    /// Everything written so far is on stable storage.
    pub async fn flush(&self) -> Outcome {
        match self {
            Self::Raw(raw) => raw.storage().sync().await,
            Self::Luks(volume) => volume.storage().sync().await,
            Self::Qcow2(image) => image.flush().await,
            Self::Null(_) => Ok(()),
        }
    }

    /// Makes the disk `size` bytes long; what is added reads as zeroes.
    pub async fn resize(&self, size: u64) -> Outcome {
        match self {
            Self::Raw(raw) => raw.resize(size).await,
            Self::Qcow2(image) => image.resize(size).await,
            Self::Luks(_) | Self::Null(_) => Err(Failure::UNSUPPORTED),
        }
    }

    /// Whether memory has something that the files do not have yet.
    pub fn has_changed(&self) -> bool {
        match self {
            Self::Qcow2(image) => image.has_changed(),
            Self::Raw(_) | Self::Luks(_) | Self::Null(_) => false,
        }
    }

    /// Writes that. Only while nobody changes the layer.
    pub async fn close(&self) -> Outcome {
        match self {
            Self::Qcow2(image) => image.close().await,
            Self::Raw(_) | Self::Luks(_) | Self::Null(_) => Ok(()),
        }
    }

    /// All of it is in its file, so that a successor may read it without its journal. Only while nobody changes
    /// the layer.
    pub async fn settle(&self) -> Outcome {
        self.flush().await?;
        self.close().await
    }

    /// Writes that, and what is kept until an image is left: its bitmaps are no longer in use.
    pub async fn shut(&self) -> Outcome {
        match self {
            Self::Qcow2(image) => image.shut().await,
            Self::Raw(_) | Self::Luks(_) | Self::Null(_) => Ok(()),
        }
    }

    /// Makes what the range reads as this layer's own, where it still comes from below: copy-on-read,
    /// and what a stream is made of. What others write meanwhile stays.
    pub async fn adopt(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Qcow2(image) => image.adopt(at, len).await,
            Self::Raw(_) | Self::Luks(_) | Self::Null(_) => Ok(()),
        }
    }
}
