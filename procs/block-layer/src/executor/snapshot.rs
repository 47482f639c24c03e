//! An external snapshot: a new top layer, put on while the disk is drained.
//!
//! The file is made and opened before; drained, the disk waits for the flush of what was its top, and for
//! the supervisor's word, which in a transaction waits for other disks.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use bulkhead_protocol::block::{BlockAnswer, NamedLayer, TargetPlan};

use super::layers::Opening;
use super::record::Record;
use crate::disk::{Change, Disk};
use crate::graph::Desk;
use crate::node::Served;
use crate::qcow2::Layer;

/// What a snapshot is made of.
pub struct Snapshot {
    pub disk: Rc<Disk<Served>>,
    pub desk: Rc<Desk>,
    pub record: Rc<Record>,
    pub discard: bool,
    /// Bytes of the disk's blocks.
    pub block: u32,
    /// The order's number.
    pub call: u64,
    pub plan: TargetPlan,
}

impl Snapshot {
    /// Makes it; the answer to its order.
    pub async fn make(self, fds: Vec<OwnedFd>) -> BlockAnswer {
        match self.put_on(fds).await {
            Ok(()) => BlockAnswer::Done,
            Err(reason) => BlockAnswer::Refused(reason),
        }
    }

    async fn put_on(&self, fds: Vec<OwnedFd>) -> Result<(), String> {
        let _alone = self.record.begin_alone().await;
        let layers = self.record.layers();
        let below = layers.first().cloned().ok_or("the disk has no name for its top layer")?;
        let opening = Opening {
            desk: &self.desk,
            size: self.disk.size(),
            discard: self.discard,
            block: Some(self.block),
            inherited: false,
        };
        let top = self.disk.top();
        if let Layer::Qcow2(image) = &top
            && let Some(name) = image.busy_bitmap()
        {
            return Err(format!(
                "a backup uses the bitmap '{name}' of its top layer; wait for its end"
            ));
        }
        let below = Some((top.clone(), below));
        let target = opening.target(&self.plan, &mut fds.into_iter(), below).await;
        let (overlay, _) = target.map_err(|error| error.to_string())?;
        let done = self.go_over(&overlay, &top, layers).await;
        if done.is_err() {
            // It may have been somebody's image, and was only opened.
            let _told_by_its_header = overlay.shut().await;
        }
        done
    }

    /// Goes over to an overlay that was made over `top`, when the chain was this.
    async fn go_over(
        &self,
        overlay: &Layer<Served>,
        top: &Layer<Served>,
        mut layers: Vec<NamedLayer>,
    ) -> Result<(), String> {
        let drained = self.disk.drain().await;
        let old = self.disk.top();
        // What the overlay names below it was the top when it was made.
        if !old.is(top) || self.record.layers() != layers {
            return Err("the disk has gone over to another chain meanwhile".to_owned());
        }
        let settled = old.settle().await;
        settled.map_err(|failure| format!("its top layer cannot be flushed: {failure}"))?;
        // Its bitmaps stay with it, and whoever comes after a death only reads it. If that fails they are inconsistent,
        // as after a crash; if it stays the top after all, its next write marks them again.
        let _told_by_its_header = old.shut().await;
        overlay.set_backing(Some(old.clone()));
        layers.insert(0, self.plan.named.clone());
        self.record.switch(Some(self.call), None, layers).await?;
        self.disk.apply(&Change::Push(overlay.clone()), &drained);
        Ok(())
    }
}
