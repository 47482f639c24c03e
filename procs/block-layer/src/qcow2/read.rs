//! Reading: extents, and what each kind of them is filled from.

use super::entry::{Granules, Mapping};
use super::slices::Kind;
use super::tables::Place;
use super::{Qcow2, State};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Where the bytes of a range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// In the file, or in the external data file.
    Data {
        /// The first byte.
        at: u64,
        /// Nobody else uses them: they may be written in place.
        owned: bool,
    },
    /// Nowhere: zeroes.
    Zero {
        /// There is a cluster for them.
        at: Option<u64>,
    },
    /// In the backing file, or zeroes without one.
    Backing,
    /// Compressed.
    Compressed {
        /// First compressed byte.
        at: u64,
        /// Compressed bytes, at most.
        len: u64,
    },
}

impl Extent {
    /// Whether `other`, `skip` bytes further on, goes on where this ends.
    fn goes_on(self, other: Self, skip: u64) -> bool {
        match (self, other) {
            (Self::Data { at, owned }, Self::Data { at: next, owned: also }) => {
                next == at + skip && owned == also
            }
            (Self::Zero { at: None }, Self::Zero { at: None }) => true,
            (Self::Zero { at: Some(at) }, Self::Zero { at: Some(next) }) => next == at + skip,
            (Self::Backing, Self::Backing) => true,
            _ => false,
        }
    }
}

impl<S: Storage> Qcow2<S> {
    /// Fills `into` from the disk. The range lies in it.
    pub async fn read(&self, at: u64, into: Memory) -> Outcome {
        let _op = self.begin().await;
        self.read_within(at, into).await
    }

    /// The same, as a part of an operation.
    pub(super) async fn read_within(&self, at: u64, into: Memory) -> Outcome {
        let mut done = 0;
        while done < into.len() {
            let at = at + done;
            let (extent, len) = self.extent(at, into.len() - done).await?;
            let part = into.part(done, len);
            match extent {
                Extent::Data { at, .. } => self.read_data(at, part).await?,
                Extent::Zero { .. } => part.zero()?,
                Extent::Backing => self.read_backing(at, part).await?,
                Extent::Compressed { at: packed, len } => {
                    let within = at % self.geometry.cluster();
                    self.read_compressed(packed, len, within, part).await?;
                }
            }
            done += len;
        }
        Ok(())
    }

    pub(super) async fn read_backing(&self, at: u64, into: Memory) -> Outcome {
        match self.backing() {
            Some(layer) => layer.read(at, into).await,
            None => into.zero(),
        }
    }

    /// Where the bytes at `at` are, and how many of `len` follow them there.
    pub(super) async fn extent(&self, at: u64, len: u64) -> Result<(Extent, u64), Failure> {
        loop {
            let place = {
                let state = &mut *self.state.borrow_mut();
                match self.look(state, at, len)? {
                    Look::Found(extent, len) => return Ok((extent, len)),
                    Look::Missing(place) => place,
                }
            };
            self.load(place.slice, Kind::Table).await?;
        }
    }

    fn look(&self, state: &mut State, at: u64, len: u64) -> Result<Look, Failure> {
        let geometry = self.geometry;
        let cluster = at >> geometry.cluster_bits;
        let Some(mut place) = self.place(state, cluster)? else {
            let rest = geometry.table_span() - at % geometry.table_span();
            return Ok(Look::Found(Extent::Backing, rest.min(len)));
        };
        let Some(mapping) = self.peek(state, place)? else {
            return Ok(Look::Missing(place));
        };
        let (first, mut found) = self.stretch(mapping, at % geometry.cluster());
        let mut end = geometry.start(at) + geometry.cluster();
        // On to the next clusters, as long as they are in the same slice and go on.
        while found == end - at && found < len && !matches!(first, Extent::Compressed { .. }) {
            place.offset += geometry.entry() as usize;
            if place.offset >= geometry.slice() as usize {
                break;
            }
            let Some(mapping) = self.peek(state, place)? else {
                break;
            };
            let (next, more) = self.stretch(mapping, 0);
            if !first.goes_on(next, found) {
                break;
            }
            found += more;
            end += geometry.cluster();
        }
        Ok(Look::Found(first, found.min(len)))
    }

    /// The extent that begins at byte `within` of a cluster, as far as it goes there.
    fn stretch(&self, mapping: Mapping, within: u64) -> (Extent, u64) {
        let geometry = self.geometry;
        let rest = geometry.cluster() - within;
        let granules = match mapping {
            Mapping::Compressed { at, len } => return (Extent::Compressed { at, len }, rest),
            Mapping::Plain(granules) => granules,
        };
        let first = (within / geometry.granule()) as u32;
        let kind = |number: u32| (granules.allocated >> number & 1, granules.zero >> number & 1);
        let same = (first + 1..geometry.granules()).take_while(|n| kind(*n) == kind(first)).count();
        let end = (u64::from(first) + 1 + same as u64) * geometry.granule();
        (extent_of(granules, kind(first), within), end - within)
    }
}

fn extent_of(granules: Granules, kind: (u32, u32), within: u64) -> Extent {
    let Granules { host, owned, .. } = granules;
    match (kind, host) {
        ((1, _), Some(host)) => Extent::Data { at: host + within, owned },
        ((_, 1), host) => Extent::Zero { at: host.map(|host| host + within) },
        _ => Extent::Backing,
    }
}

enum Look {
    Found(Extent, u64),
    Missing(Place),
}
