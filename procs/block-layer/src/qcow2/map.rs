//! Where every byte of a disk is, over all layers of its chain.

use super::read::Extent;
use super::{Layer, Qcow2};
use crate::outcome::Failure;
use crate::storage::Storage;

/// A range of the disk of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// The layer that decides, 0 for the image itself.
    pub depth: u32,
    /// That layer has it, and it is not just missing everywhere.
    pub present: bool,
    /// It reads as zeroes.
    pub zero: bool,
    /// It takes room in a file.
    pub data: bool,
    /// It is compressed.
    pub compressed: bool,
    /// Where it is in that layer's file, if it is there as it is.
    pub offset: Option<u64>,
}

impl Range {
    /// What nobody has: zeroes.
    pub fn nothing(start: u64, length: u64) -> Self {
        let (depth, present, zero, data, compressed, offset) = (0, false, true, false, false, None);
        Self { start, length, depth, present, zero, data, compressed, offset }
    }

    /// Whether `next` continues this.
    pub fn goes_on(&self, next: &Self) -> bool {
        let offset = self.offset.map(|offset| offset + self.length);
        let kind =
            |range: &Self| (range.depth, range.present, range.zero, range.data, range.compressed);
        self.start + self.length == next.start && kind(self) == kind(next) && offset == next.offset
    }
}

impl<S: Storage> Qcow2<S> {
    /// The range at `at`, at most `len` bytes. Calls with `at` moved on by its length give the rest.
    pub async fn range(&self, at: u64, len: u64) -> Result<Range, Failure> {
        let _op = self.begin().await;
        let (extent, length) = self.extent(at, len).await?;
        let range = Range {
            start: at,
            length,
            depth: 0,
            present: true,
            zero: false,
            data: true,
            compressed: false,
            offset: None,
        };
        Ok(match extent {
            Extent::Data { at, .. } => Range { offset: Some(at), ..range },
            Extent::Zero { at } => Range { zero: true, data: false, offset: at, ..range },
            Extent::Compressed { .. } => Range { compressed: true, ..range },
            Extent::Backing => self.range_below(Range::nothing(at, length)).await?,
        })
    }

    /// Whether zeroes in this range are entries alone, without bytes.
    pub fn zeroes_fast(&self, at: u64, len: u64) -> bool {
        let (cluster, end) = (self.geometry.cluster(), at + len);
        let whole =
            at.is_multiple_of(cluster) && (end.is_multiple_of(cluster) || end == self.size());
        whole && self.version >= 3 && !self.is_external()
    }

    async fn range_below(&self, nothing: Range) -> Result<Range, Failure> {
        let Range { start, length, .. } = nothing;
        let Some(layer) = self.backing() else {
            return Ok(nothing);
        };
        let there = layer.size().saturating_sub(start).min(length);
        if there == 0 {
            return Ok(nothing);
        }
        let below = match &layer {
            Layer::Null(_) => Range { length: there, present: true, ..nothing },
            Layer::Raw(raw) => {
                let (data, offset) = (true, Some(raw.start() + start));
                Range { length: there, present: true, zero: false, data, offset, ..nothing }
            }
            Layer::Luks(_) => {
                Range { length: there, present: true, zero: false, data: true, ..nothing }
            }
            Layer::Qcow2(image) => Box::pin(image.range(start, there)).await?,
        };
        Ok(Range { depth: below.depth + 1, ..below })
    }
}
