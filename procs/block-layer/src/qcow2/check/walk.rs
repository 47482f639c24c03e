//! Walking everything that refers to clusters.

use super::uses::Uses;
use super::{Report, TOLD};
use crate::outcome::{Failure, Outcome};
use crate::qcow2::Qcow2;
use crate::qcow2::entry::{Granules, Mapping};
use crate::qcow2::geometry::OFFSET;
use crate::qcow2::open::{read_bytes, read_numbers};
use crate::qcow2::slices::Kind;
use crate::qcow2::tables::Place;
use crate::storage::Storage;

/// The bit of an L1 or L2 entry that says that nobody else uses the cluster.
const COPIED: u64 = 1 << 63;

/// Bits of an L1 entry that must be zero.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;

/// Bits of a compressed entry's descriptor.
const COMPRESSED: u64 = 1 << 62;

/// One walk.
pub(super) struct Walk<'a, S> {
    image: &'a Qcow2<S>,
    pub(super) report: Report,
    /// Uses of each cluster of the file.
    pub(super) uses: Uses,
    /// Nothing refers to where nothing can be: counts may be repaired.
    pub(super) sound: bool,
    /// A block of counts is not where it can be.
    pub(super) lost: bool,
    /// A cluster was used once more.
    shared: bool,
    file_size: u64,
    next_host: Option<u64>,
}

impl<'a, S: Storage> Walk<'a, S> {
    pub(super) fn new(image: &'a Qcow2<S>) -> Result<Self, Failure> {
        let file_size = image.file.size()?;
        let clusters = file_size.div_ceil(image.geometry.cluster());
        let total = image.size().div_ceil(image.geometry.cluster());
        Ok(Self {
            image,
            report: Report { total, ..Report::default() },
            uses: Uses::new(clusters),
            sound: true,
            lost: false,
            shared: false,
            file_size,
            next_host: None,
        })
    }

    pub(super) async fn all(&mut self) -> Outcome {
        let image = self.image;
        let (header, l1, reftable, snapshots) = {
            let state = image.state.borrow();
            let (l1, reftable) = (state.l1.clone(), state.reftable.clone());
            (state.header.clone(), l1, reftable, state.snapshots.clone())
        };
        let cluster = image.geometry.cluster();
        self.use_range(0, cluster, "the header");
        self.use_range(header.l1_at, u64::from(header.l1_entries) * 8, "the L1 table");
        self.tables(&l1, true).await?;
        for snapshot in &snapshots {
            let bytes = u64::from(snapshot.l1_entries) * 8;
            self.use_range(snapshot.l1_at, bytes, "a snapshot's L1 table");
            let entries = snapshot.l1_entries as usize;
            let l1 = read_numbers(&image.file, snapshot.l1_at, entries, self.file_size).await?;
            self.tables(&l1, false).await?;
        }
        if let Some(last) = snapshots.last() {
            self.use_range(header.snapshots_at, last.table_end, "the snapshot table");
        }
        if let Some(encryption) = header.extensions.encryption {
            self.use_range(encryption.at, encryption.bytes, "the encryption header");
        }
        self.bitmaps(&header).await?;
        self.counts(header.reftable_at, u64::from(header.reftable_clusters), &reftable);
        Ok(())
    }

    /// The counts themselves. What is wrong with them is no harm to anything else: they can be made anew.
    fn counts(&mut self, table_at: u64, clusters: u64, table: &[u64]) {
        let geometry = self.image.geometry;
        let sound = self.sound;
        self.shared = false;
        self.use_range(table_at, clusters * geometry.cluster(), "the refcount table");
        for (index, entry) in table.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let at = entry & !511;
            if !geometry.is_start(at) || entry & 511 != 0 {
                self.wrong(|| format!("ERROR refcount block {index} at {entry:#x} is not aligned"));
            } else {
                self.use_range(at, geometry.cluster(), "a refcount block");
            }
        }
        // Counts that are nowhere, or lie in something else.
        self.lost = self.shared || (sound && !self.sound);
        self.sound = sound;
    }

    fn wrong(&mut self, finding: impl FnOnce() -> String) {
        self.sound = false;
        self.report.corruptions += 1;
        self.report.tell(finding);
    }

    /// Counts the clusters of a range; it may end within the file's last cluster.
    fn use_range(&mut self, at: u64, len: u64, what: &str) {
        if len == 0 {
            return;
        }
        let bits = self.image.geometry.cluster_bits;
        let (first, last) = (at >> bits, at.saturating_add(len - 1) >> bits);
        for cluster in first..=last {
            match self.uses.add(cluster) {
                Some(had) => self.shared |= had > 0,
                None => {
                    self.wrong(|| {
                        format!("ERROR {what} at {at:#x} lies behind the end of the file")
                    });
                    return;
                }
            }
        }
    }

    async fn tables(&mut self, l1: &[u64], active: bool) -> Outcome {
        let cluster = self.image.geometry.cluster();
        for (index, entry) in l1.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let at = entry & OFFSET;
            if entry & L1_RESERVED != 0 || !self.image.geometry.is_start(at) {
                self.wrong(|| format!("ERROR L1 entry {index} is {entry:#018x}"));
                continue;
            }
            if at == 0 {
                continue;
            }
            self.use_range(at, cluster, "an L2 table");
            if at < self.file_size {
                self.table(index as u64, at, active).await?;
            }
        }
        Ok(())
    }

    async fn table(&mut self, index: u64, at: u64, active: bool) -> Outcome {
        let geometry = self.image.geometry;
        let bytes = read_bytes(&self.image.file, at, geometry.cluster() as usize).await?;
        for (number, entry) in bytes.chunks_exact(geometry.entry() as usize).enumerate() {
            let word = |from: usize| {
                let bytes = entry.get(from..from + 8).unwrap_or_default();
                bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            };
            let (descriptor, bitmap) = (word(0), word(8));
            if descriptor == 0 && bitmap == 0 {
                continue;
            }
            let external = self.image.header().has_data_file();
            let version = self.image.version;
            match Mapping::decode(geometry, version, external, descriptor, bitmap) {
                Err(bad) => {
                    let cluster = index * geometry.entries() + number as u64;
                    self.wrong(|| format!("ERROR {bad} of cluster {cluster} is wrong"));
                }
                Ok(mapping) => self.mapped(mapping, external, active),
            }
        }
        Ok(())
    }

    fn mapped(&mut self, mapping: Mapping, external: bool, active: bool) {
        let cluster = self.image.geometry.cluster();
        match mapping {
            Mapping::Compressed { at, len } => {
                // The last sector may be cut off by the end of the file.
                let len = len.min(self.file_size.saturating_sub(at)).max(1);
                self.use_range(at, len, "a compressed cluster");
                if active {
                    self.report.allocated += 1;
                    self.report.compressed += 1;
                    // Each is a fragment, as QEMU counts.
                    self.report.fragmented += 1;
                }
            }
            Mapping::Plain(Granules { host: Some(at), .. }) => {
                if !external {
                    self.use_range(at, cluster, "a cluster");
                }
                if active {
                    self.report.allocated += 1;
                    let broken = self.next_host.is_some_and(|next| next != at);
                    self.report.fragmented += u64::from(broken);
                    self.next_host = Some(at + cluster);
                }
            }
            Mapping::Plain(_) => {}
        }
    }

    /// The directory of bitmaps, their tables and their clusters.
    async fn bitmaps(&mut self, header: &crate::qcow2::Header) -> Outcome {
        let Some(bitmaps) = header.extensions.bitmaps else {
            return Ok(());
        };
        if header.autoclear & crate::qcow2::header::autoclear::BITMAPS == 0 {
            return Ok(());
        }
        let len = bitmaps.directory_bytes.min(64 << 20);
        self.use_range(bitmaps.directory_at, len, "the bitmap directory");
        let there = self.file_size.saturating_sub(bitmaps.directory_at).min(len) as usize;
        let directory = read_bytes(&self.image.file, bitmaps.directory_at, there).await?;
        let mut rest = &directory[..];
        for _ in 0..bitmaps.count.min(65535) {
            let number = |from: usize, len: usize| {
                let bytes = rest.get(from..from + len).unwrap_or_default();
                bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
            };
            let (at, entries) = (number(0, 8), number(8, 4));
            let len = (24 + number(18, 2) + number(20, 4)).next_multiple_of(8);
            if rest.len() < 24 || entries * 8 > self.file_size {
                self.wrong(|| "ERROR the bitmap directory is wrong".to_owned());
                return Ok(());
            }
            self.use_range(at, entries * 8, "a bitmap table");
            let table =
                read_numbers(&self.image.file, at, entries as usize, self.file_size).await?;
            for entry in table.iter().map(|entry| entry & OFFSET).filter(|entry| *entry != 0) {
                self.use_range(entry, self.image.geometry.cluster(), "a bitmap's cluster");
            }
            rest = rest.get(len as usize..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The second walk, once the counts are known: the copied flags of what the disk itself refers to.
pub(super) struct Flags<'a, S> {
    image: &'a Qcow2<S>,
    repair: bool,
}

impl<'a, S: Storage> Flags<'a, S> {
    pub(super) fn new(image: &'a Qcow2<S>, repair: bool) -> Self {
        Self { image, repair }
    }

    pub(super) async fn all(&mut self, report: &mut Report) -> Outcome {
        let image = self.image;
        let l1 = image.state.borrow().l1.clone();
        for (index, entry) in l1.iter().enumerate() {
            let at = entry & OFFSET;
            if at == 0 || !image.geometry.is_start(at) || entry & L1_RESERVED != 0 {
                continue;
            }
            let alone = self.is_alone(at).await;
            if alone != (entry & COPIED != 0) {
                self.found(report, || format!("OFLAG_COPIED L2 table {index}: {entry:#018x}"));
                if self.repair {
                    let state = &mut *image.state.borrow_mut();
                    state.l1[index] = at | if alone { COPIED } else { 0 };
                    state.l1_dirty.insert(index * 8 / image.geometry.slice() as usize);
                }
            }
            self.table(index as u64, at, report).await?;
        }
        Ok(())
    }

    /// A cluster that cannot be counted was told of already.
    async fn is_alone(&self, at: u64) -> bool {
        self.image.count(at >> self.image.geometry.cluster_bits).await == Ok(1)
    }

    fn found(&self, report: &mut Report, what: impl FnOnce() -> String) {
        let (word, count) = match self.repair {
            true => ("Repairing", &mut report.corruptions_fixed),
            false => ("ERROR", &mut report.corruptions),
        };
        *count += 1;
        if report.findings.len() < TOLD {
            report.findings.push(format!("{word} {}", what()));
        }
    }

    async fn table(&mut self, index: u64, at: u64, report: &mut Report) -> Outcome {
        let image = self.image;
        let geometry = image.geometry;
        if image.header().has_data_file() || at >= image.file.size()? {
            return Ok(());
        }
        for number in 0..geometry.entries() {
            let byte = number * geometry.entry();
            let slice = at + byte / geometry.slice() * geometry.slice();
            let place = Place { slice, offset: (byte % geometry.slice()) as usize };
            image.load(slice, Kind::Table).await?;
            let descriptor = {
                let state = &mut *image.state.borrow_mut();
                state.slices.get(slice).map_or(0, |slice| slice.number(place.offset))
            };
            let host = descriptor & OFFSET;
            let copied = descriptor & COPIED != 0;
            let expected = match descriptor & COMPRESSED {
                0 if host == 0 => continue,
                0 => self.is_alone(host).await,
                _ => false,
            };
            if copied != expected {
                let cluster = index * geometry.entries() + number;
                self.found(report, || {
                    format!("OFLAG_COPIED cluster {cluster}: {descriptor:#018x}")
                });
                if self.repair {
                    image.load(slice, Kind::Table).await?;
                    let fixed = descriptor & !COPIED | if expected { COPIED } else { 0 };
                    let state = &mut *image.state.borrow_mut();
                    state.slices.change(slice, |slice| slice.set_number(place.offset, fixed));
                }
            }
        }
        Ok(())
    }
}
