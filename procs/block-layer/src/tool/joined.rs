//! Several disks, one behind the other, as one that is read.

use bulkhead_block_layer::memory::Memory;
use bulkhead_block_layer::outcome::{Failure, Outcome};

use super::disk::Disk;

/// A disk's last sector may be half there; the next disk begins with a sector of its own.
const SECTOR: u64 = 512;

/// See the module.
#[derive(Debug)]
pub struct Joined(Vec<(u64, Disk)>);

impl Joined {
    /// These, in this order.
    pub fn new(disks: Vec<Disk>) -> Self {
        let mut start = 0;
        let place = |disk: Disk| {
            let at = start;
            start += disk.size().next_multiple_of(SECTOR);
            (at, disk)
        };
        Self(disks.into_iter().map(place).collect())
    }

    /// The first of them.
    pub fn first(&self) -> Option<&Disk> {
        self.0.first().map(|(_, disk)| disk)
    }

    /// Bytes of all, in whole sectors.
    pub fn size(&self) -> u64 {
        self.0.last().map_or(0, |(at, disk)| at + disk.size().next_multiple_of(SECTOR))
    }

    /// Which of them is at `at`: its start, and where the next one's is.
    fn of(&self, at: u64) -> Option<(u64, &Disk, u64)> {
        let next = self.0.partition_point(|(start, _)| *start <= at);
        let (start, disk) = self.0.get(next.checked_sub(1)?)?;
        let end = self.0.get(next).map_or(u64::MAX, |(start, _)| *start);
        Some((*start, disk, end))
    }

    /// Fills `into`; what lies behind the end of a disk is zeroes.
    pub async fn read(&self, at: u64, into: &Memory) -> Outcome {
        let mut done = 0;
        while done < into.len() {
            let rest = into.part(done, into.len() - done);
            let Some((start, disk, end)) = self.of(at + done) else {
                return rest.zero();
            };
            let within = at + done - start;
            let there = disk.size().saturating_sub(within).min(rest.len());
            let len = rest.len().min(end - start - within);
            disk_part(disk, within, &rest.part(0, there)).await?;
            rest.part(there, len - there).zero()?;
            done += len;
        }
        Ok(())
    }

    /// Whether it is known to read as zeroes at `at`, and as far as what is, `rest` bytes at most.
    pub async fn stretch(&self, at: u64, rest: u64) -> Result<(bool, u64), Failure> {
        let Some((start, disk, end)) = self.of(at) else {
            return Ok((true, rest));
        };
        let (within, rest) = (at - start, rest.min(end - at));
        if within >= disk.size() {
            return Ok((true, rest));
        }
        let range = disk.range(within, rest.min(disk.size() - within)).await?;
        Ok((range.zero, range.length))
    }
}

async fn disk_part(disk: &Disk, at: u64, into: &Memory) -> Outcome {
    match into.is_empty() {
        true => Ok(()),
        false => disk.read(at, into.clone()).await,
    }
}
