//! A larger size: the top layer grows while the disk is drained.
//!
//! The supervisor is told by the answer, and tells consumers: no request for what is new comes before. A
//! process that dies on the way leaves an image of the old size or of the new one, and its successor says
//! which.
//!
//! Absent on purpose: shrinking, which takes from a guest what it has.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bitmaps::Bitmaps;
use super::jobs::Jobs;
use super::record::Record;
use crate::disk::Disk;
use crate::node::Served;
use crate::outcome::Failure;

/// What a change of the size concerns.
pub struct Resize {
    pub disk: Rc<Disk<Served>>,
    pub record: Rc<Record>,
    pub jobs: Rc<Jobs>,
    pub bitmaps: Rc<Bitmaps>,
    /// What lanes check requests against.
    pub lanes: Arc<AtomicU64>,
    /// Smallest unit of a request in bytes.
    pub block: u32,
}

impl Resize {
    /// Makes the disk `size` bytes long.
    pub async fn make(self, size: u64) -> Result<(), String> {
        let _alone = self.record.begin_alone().await;
        if !self.jobs.reports().is_empty() {
            return Err("a job works on the disk".to_owned());
        }
        if self.disk.is_verified() {
            return Err("it is held against a reference, which does not grow".to_owned());
        }
        let _drained = self.disk.drain().await;
        let (top, old) = (self.disk.top(), self.disk.size());
        if size < old {
            return Err(format!("it would lose what lies behind: it has {old} bytes"));
        }
        if !size.is_multiple_of(self.block.into()) {
            return Err(format!("its blocks have {} bytes", self.block));
        }
        top.resize(size).await.map_err(reason)?;
        self.bitmaps.resize(size);
        // From here on there is no way back: a successor finds the new size as well.
        let settled = top.settle().await;
        self.lanes.store(self.disk.size(), Ordering::Relaxed);
        settled.map_err(|failure| format!("it has grown, but cannot be flushed: {failure}"))
    }
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::UNSUPPORTED => {
            "its image cannot grow: it is a block device, a part of a file, or an old qcow2 with snapshots".into()
        }
        other => format!("its image does not grow: {other}"),
    }
}
