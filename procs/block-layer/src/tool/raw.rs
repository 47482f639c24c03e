//! A raw disk: bytes as they are, and which of them are holes, as the file system tells.
//!
//! What a hole is asked of is long, and where it ends takes the kernel as long to find out as it is: the
//! answer about a file that nobody writes is kept.

use std::cell::Cell;
use std::fs::File;

use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::map::Range;
use bulkhead_block_layer::storage::Storage;
use bulkhead_sys::file::{Presence, presence};

use super::store::Store;

/// See the module.
#[derive(Debug)]
pub struct RawDisk {
    /// Its file.
    pub file: Store,
    /// Bytes of it.
    pub size: u64,
    /// The last answer; none of a file that is written.
    known: Option<Cell<Range>>,
}

impl RawDisk {
    /// The bytes of a file.
    pub fn new(file: Store, size: u64, read_only: bool) -> Self {
        let nothing = range(0, 0, false);
        Self { file, size, known: read_only.then(|| Cell::new(nothing)) }
    }

    /// Where the bytes from `at` on are, as far as `rest` bytes.
    pub async fn range(&self, at: u64, rest: u64) -> Result<Range, Failure> {
        let Some(file) = self.file.file() else {
            let (zero, length) = self.file.reads_zero(at, rest).await?;
            return Ok(range(at, length.clamp(1, rest), zero));
        };
        let Some(known) = &self.known else {
            return Ok(raw_range(file, at, rest));
        };
        let Range { start, length, .. } = known.get();
        if !(start..start.saturating_add(length)).contains(&at) {
            known.set(raw_range(file, at, u64::MAX - at));
        }
        let Range { start, length, zero, .. } = known.get();
        Ok(range(at, (length - (at - start)).min(rest), zero))
    }
}

/// Holes as the file system tells; where it tells nothing, all is data.
pub fn raw_range(file: &File, at: u64, rest: u64) -> Range {
    let (hole, end) = match presence(file, at) {
        Ok((Presence::Hole, end)) => (true, end),
        Ok((Presence::Data, end)) => (false, end),
        Err(_) => (false, u64::MAX),
    };
    range(at, end.saturating_sub(at).clamp(1, rest), hole)
}

fn range(start: u64, length: u64, zero: bool) -> Range {
    Range {
        start,
        length,
        depth: 0,
        present: true,
        zero,
        data: !zero,
        compressed: false,
        offset: Some(start),
    }
}
