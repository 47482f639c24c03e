//! The check: does every cluster's count say how often it is used?
//!
//! Everything that refers to clusters is walked ([`walk`]) and counted in a table of its own; then the two
//! are compared. A count that is too high is a **leak**: room is lost. One that is too low is an **error**:
//! somebody will be given a cluster that is in use. The copied flags follow from the counts.
//!
//! It trusts nothing: a reference past the end of the file or to half a cluster is an error and no panic,
//! and memory is bounded by the length of the file.

mod uses;
mod walk;

use super::Qcow2;
use super::header::incompatible;
use super::shadow::Shadow;
use crate::outcome::Failure;
use crate::storage::Storage;

use uses::Uses;
use walk::Walk;

/// Findings that are told in words; the rest is counted.
const TOLD: usize = 1000;

/// Most clusters of a file that is checked: 64 TiB of clusters of 64 KiB, two gigabytes of memory.
pub const MOST_CLUSTERS: u64 = 1 << 30;

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    Nothing,
    /// Counts that are too high.
    Leaks,
    /// All counts and flags, and the dirty and corrupt bits once nothing else is wrong.
    All,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In words.
    pub findings: Vec<String>,
    /// Errors left.
    pub corruptions: u64,
    /// Leaked clusters left.
    pub leaks: u64,
    /// Errors repaired.
    pub corruptions_fixed: u64,
    /// Leaked clusters given back.
    pub leaks_fixed: u64,
    /// Clusters of the disk.
    pub total: u64,
    /// Of them in the file.
    pub allocated: u64,
    /// Of them compressed.
    pub compressed: u64,
    /// Of them not behind the one before.
    pub fragmented: u64,
    /// Where the last cluster in use ends.
    pub image_end: u64,
    /// All counts were made anew.
    pub rebuilt: bool,
}

impl Report {
    fn tell(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < TOLD {
            self.findings.push(finding());
        }
    }
}

impl<S: Storage> Qcow2<S> {
    /// Checks the image, on which no operation may be under way, and repairs what `repair` allows.
    pub async fn check(&self, repair: Repair) -> Result<Report, Failure> {
        self.check_at_most(repair, MOST_CLUSTERS).await
    }

    /// The same if its file has at most so many clusters: each takes two bytes and some time.
    pub(super) async fn check_at_most(&self, repair: Repair, most: u64) -> Result<Report, Failure> {
        if self.file.size()?.div_ceil(self.geometry.cluster()) > most {
            return Err(Failure::TOO_LARGE);
        }
        let report = self.check_once(repair).await?;
        if !report.rebuilt {
            return Ok(report);
        }
        // Where things lay in each other, the new counts are those of before: once more.
        let again = self.check_once(repair).await?;
        let corruptions_fixed = report.corruptions_fixed + again.corruptions_fixed;
        let findings = [report.findings, again.findings].concat();
        Ok(Report { corruptions_fixed, findings, ..again })
    }

    async fn check_once(&self, repair: Repair) -> Result<Report, Failure> {
        self.close().await?;
        let mut walk = Walk::new(self)?;
        walk.all().await?;
        let Walk { mut report, uses, sound, lost, .. } = walk;
        let before = (report.corruptions, report.leaks);
        if repair == Repair::All && sound && (lost || self.lacks_block(&uses)) {
            self.rebuild_counts(&mut report, uses).await?;
            return Ok(report);
        }
        self.compare_counts(&mut report, &uses, repair, sound).await?;
        let mut flags = walk::Flags::new(self, repair == Repair::All && sound);
        flags.all(&mut report).await?;
        if repair != Repair::Nothing && !self.options.read_only {
            let whole = report.corruptions == 0 && before == (0, 0);
            if repair == Repair::All && whole {
                let state = &mut *self.state.borrow_mut();
                let marks = incompatible::DIRTY | incompatible::CORRUPT;
                state.header_dirty |= state.header.has(marks);
                state.header.incompatible &= !marks;
            }
            self.close().await?;
        }
        Ok(report)
    }

    /// Whether something is used that no block counts.
    fn lacks_block(&self, uses: &Uses) -> bool {
        let counts = self.geometry.counts();
        let state = self.state.borrow();
        uses.used(0, uses.clusters()).any(|(cluster, _)| {
            let block = self.block(&state, cluster / counts);
            block.is_ok_and(|block| block.is_none())
        })
    }

    /// The clusters of the refcount table and its blocks.
    pub(super) fn counting(&self) -> Vec<u64> {
        let bits = self.geometry.cluster_bits;
        let state = self.state.borrow();
        let table = state.header.reftable_at >> bits;
        let table = table..table + u64::from(state.header.reftable_clusters);
        let sound = |at: &&u64| **at != 0 && **at & 511 == 0 && self.geometry.is_start(**at);
        let blocks = state.reftable.iter().filter(sound);
        table.chain(blocks.map(|at| at >> bits)).collect()
    }

    /// All counts anew, in another place. Whatever they were, they are right then; so are the flags.
    async fn rebuild_counts(&self, report: &mut Report, mut uses: Uses) -> Result<(), Failure> {
        // Of others than the counts themselves: those are placed anew.
        for cluster in self.counting() {
            uses.take(cluster);
        }
        let others = uses.used(0, uses.clusters());
        let mut shadow = Shadow::rebuild(self, uses.clusters(), others).await?;
        let entries = self.state.borrow().l1.len() as u64;
        shadow.set_l1(self.l1_in_use(), entries).await?;
        shadow.header.incompatible &= !(incompatible::DIRTY | incompatible::CORRUPT);
        shadow.finish().await?;
        report.tell(|| "Rebuilt the refcounts".to_owned());
        report.rebuilt = true;
        report.corruptions_fixed += std::mem::take(&mut report.corruptions) + 1;
        Ok(())
    }

    async fn compare_counts(
        &self,
        report: &mut Report,
        uses: &Uses,
        repair: Repair,
        sound: bool,
    ) -> Result<(), Failure> {
        let (counts, file_size) = (self.geometry.counts(), self.file.size()?);
        // Counts of what lies behind the end of the file count nothing.
        let end = uses.clusters();
        for index in 0..end.div_ceil(counts) {
            let part = index * counts..((index + 1) * counts).min(end);
            let block = self.block(&self.state.borrow(), index);
            match block {
                // One that is not aligned, told already.
                Err(_) => {}
                Ok(Some(at)) if at < file_size => {
                    for cluster in part {
                        let used = uses.of(cluster);
                        self.compare_count(report, cluster, used, repair, sound).await?;
                    }
                }
                Ok(_) => {
                    for (cluster, used) in uses.used(part.start, part.end) {
                        self.compare_count(report, cluster, used, repair, sound).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn compare_count(
        &self,
        report: &mut Report,
        cluster: u64,
        used: u64,
        repair: Repair,
        sound: bool,
    ) -> Result<(), Failure> {
        let count = self.count(cluster).await?;
        if used > 0 || count > 0 {
            report.image_end = report.image_end.max((cluster + 1) << self.geometry.cluster_bits);
        }
        if count == used {
            return Ok(());
        }
        let leak = count > used;
        let fix = sound && repair != Repair::Nothing && (leak || repair == Repair::All);
        let word = match (fix, leak) {
            (true, _) => "Repairing",
            (false, true) => "Leaked",
            (false, false) => "ERROR",
        };
        report.tell(|| format!("{word} cluster {cluster} refcount={count} reference={used}"));
        let (left, fixed) = match leak {
            true => (&mut report.leaks, &mut report.leaks_fixed),
            false => (&mut report.corruptions, &mut report.corruptions_fixed),
        };
        if fix && self.repair_count(cluster, used).await.is_ok() {
            *fixed += 1;
        } else {
            *left += 1;
        }
        Ok(())
    }

    /// A cluster that no block counts needs one first; its place must itself be unused.
    async fn repair_count(&self, cluster: u64, used: u64) -> Result<(), Failure> {
        if used > self.geometry.most() {
            return Err(Failure::TOO_LARGE);
        }
        self.set_count(cluster, used).await
    }
}
