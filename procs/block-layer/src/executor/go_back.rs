//! Back to an internal snapshot, while the disk is served.
//!
//! ```text
//! drained ─► another L1 table in force ─► Switching ─► Switched ─► served again, and answered
//!    ▲                  │ dies                             ▲
//!    └── successor ◄────┴── told of the order once more ───┘ (the record: the order is over)
//! ```
//!
//! Whoever dies before the word leaves the old state or the snapshot's, and nothing was written since: its
//! successor does it once more before it serves. After the word nobody does it again, so nothing is lost that was
//! answered later.
//!
//! As in QEMU: no job is at work and the disk has no bitmap, for what they know would be wrong. Unlike there, the
//! size stays: who uses a disk was told how large it is.

use std::rc::Rc;

use super::bitmaps::Bitmaps;
use super::jobs::Jobs;
use super::record::Record;
use crate::disk::Disk;
use crate::node::Served;
use crate::qcow2::{Layer, SnapshotError};

/// What it concerns.
pub struct GoBack {
    pub disk: Rc<Disk<Served>>,
    pub record: Rc<Record>,
    pub jobs: Rc<Jobs>,
    pub bitmaps: Rc<Bitmaps>,
    /// The order's number.
    pub call: u64,
}

impl GoBack {
    /// Makes the disk what it was in a snapshot of its top layer.
    pub async fn to(self, name: &str) -> Result<(), String> {
        let _alone = self.record.begin_alone().await;
        if let Some(job) = self.jobs.reports().first() {
            return Err(format!("job {} works on the disk", job.job));
        }
        if let Some(bitmap) = self.bitmaps.names(&self.disk).first() {
            return Err(format!(
                "it has the bitmap '{bitmap}', which would be wrong; remove it first"
            ));
        }
        let _drained = self.disk.drain().await;
        let Layer::Qcow2(image) = self.disk.top() else {
            return Err("its top layer is no qcow2 image".to_owned());
        };
        let snapshot = image.snapshot(name);
        let snapshot =
            snapshot.ok_or_else(|| SnapshotError::Missing(name.to_owned()).to_string())?;
        let (was, now) = (snapshot.size.unwrap_or(image.size()), image.size());
        if was != now {
            return Err(format!(
                "the disk had {was} bytes then and has {now} now; 'bulkhead-img snapshot -a' does it while it is off"
            ));
        }
        image.snapshot_apply(&snapshot.id).await.map_err(|error| error.to_string())?;
        // There is no way back: whatever the supervisor says, it is so.
        let layers = self.record.layers();
        let _it_is_so = self.record.switch(Some(self.call), None, layers).await;
        Ok(())
    }
}
