//! Backup: copies the disk as it was when the job began, while it goes on changing.
//!
//! [`Preserving`] sees every change before it is made and copies first what it would overwrite; the job
//! copies the rest. Each piece is copied once, under a lock of its range, by whoever comes first.
//!
//! Not resumable: the moment is past once the process is dead. The successor tells that it failed.

mod by_bitmap;
mod preserving;

use std::rc::Rc;

use super::control::{Control, Ended, Side};
use super::copy::{LONGEST, Together};
use crate::bitmap::Bitmap;
use crate::disk::{Disk, Watcher};
use crate::outcome::Failure;
use crate::qcow2::{Held, Layer};
use crate::storage::Storage;

pub use by_bitmap::{BitmapMode, ByBitmap};
pub use preserving::Preserving;

/// Least bytes of a piece, as in QEMU.
const CLUSTER: u64 = 64 << 10;

/// What is copied.
#[derive(Debug)]
pub enum Extent<S: Storage> {
    /// Everything.
    Full,
    /// What is in the top layer.
    Top,
    /// What is about to be overwritten, until the job is cancelled.
    None,
    /// What a bitmap marks: what has changed since the last backup.
    Bitmap(ByBitmap<S>),
}

/// The job.
#[derive(Debug)]
pub struct Backup<S: Storage> {
    /// What is copied.
    pub disk: Rc<Disk<S>>,
    /// Where to: writable, of the disk's size, and no part of its chain.
    pub target: Layer<S>,
    /// What of it.
    pub extent: Extent<S>,
}

impl<S: Storage> Backup<S> {
    /// What is wrong with it, if anything is.
    pub fn refuse(&self) -> Result<(), String> {
        let (size, target) = (self.disk.size(), self.target.size());
        if size != target {
            return Err(format!(
                "the target has {target} bytes and the disk {size}; give a target of the same size"
            ));
        }
        match self.disk.top().depth_of(&self.target) {
            Some(_) => Err("the target is a part of the disk's own chain".to_owned()),
            None => Ok(()),
        }
    }

    pub(super) async fn run(self, control: &Rc<Control>) -> Result<(), Ended> {
        self.refuse().map_err(|_| Failure::INVALID)?;
        let size = self.disk.size();
        let piece = self.target.cluster_size().map_or(CLUSTER, |cluster| cluster.max(CLUSTER));
        let todo = Bitmap::new(size, piece);
        let drained = self.disk.drain().await;
        // Under the drain: the bitmap's last change and the backup's moment are the same.
        match &self.extent {
            Extent::Full | Extent::Top | Extent::None => todo.set(0..size),
            Extent::Bitmap(bitmap) => todo.merge(&bitmap.begin().ok_or(Failure::INVALID)?),
        }
        let preserving =
            Rc::new(Preserving::new(&self.disk, self.target.clone(), todo, Rc::clone(control)));
        let watcher = Watcher::Backup(Rc::clone(&preserving));
        let attached = self.disk.attach_drained(watcher, &drained).await;
        drop(drained);
        let ended = self.copy_all(control, &preserving).await;
        drop(attached);
        if let Extent::Bitmap(bitmap) = &self.extent {
            bitmap.end(ended.is_ok(), &self.disk, &preserving.todo().bits()).await;
        }
        ended
    }

    async fn copy_all(
        &self,
        control: &Rc<Control>,
        preserving: &Rc<Preserving<S>>,
    ) -> Result<(), Ended> {
        preserving.account();
        match &self.extent {
            Extent::None => {
                control.until(|| preserving.broken().is_some()).await;
                control.step(0).await?;
            }
            Extent::Top => {
                self.leave_out_below(control, preserving).await?;
                self.copy_rest(control, preserving).await?;
            }
            Extent::Full | Extent::Bitmap(..) => self.copy_rest(control, preserving).await?,
        }
        if let Some(failure) = preserving.broken() {
            return Err(if control.is_cancelled() { Ended::Cancelled } else { failure.into() });
        }
        // Nothing is marked any more, so no request changes the target: all of it goes to its file.
        let settle = async || {
            let settled = self.target.settle().await;
            settled.map_err(|failure| (Side::Target, failure))
        };
        control.insist(settle).await
    }

    /// Pieces of which the top layer has nothing are not copied.
    async fn leave_out_below(
        &self,
        control: &Control,
        preserving: &Preserving<S>,
    ) -> Result<(), Ended> {
        let top = self.disk.top();
        let (size, unit) = (top.size(), preserving.todo().granularity());
        let mut at = 0;
        while at < size {
            control.step(0).await?;
            let end = (at + unit).min(size);
            match is_below(&top, at, end).await {
                Ok(true) => preserving.todo().clear(at..end),
                Ok(false) => {}
                Err(failure) => {
                    control.failed(Side::Source, failure).await?;
                    continue;
                }
            }
            preserving.account();
            at = end;
        }
        Ok(())
    }

    async fn copy_rest(
        &self,
        control: &Rc<Control>,
        preserving: &Rc<Preserving<S>>,
    ) -> Result<(), Ended> {
        let mut copies = Together::new();
        let mut from = 0;
        let ended = loop {
            let next = preserving.todo().next_dirty(from, LONGEST);
            let finished = next.is_none();
            if (finished && copies.is_empty()) || preserving.broken().is_some() {
                // A piece that failed is marked still.
                if preserving.todo().is_clean() || preserving.broken().is_some() {
                    break Ok(());
                }
                from = 0;
                continue;
            }
            if copies.is_full() || finished {
                if let Err((side, failure)) = copies.next().await {
                    match copies.beside(control.failed(side, failure)).await {
                        Ok(()) => from = 0,
                        Err(ended) => break Err(ended),
                    }
                } else {
                    control.succeeded();
                }
                continue;
            }
            let Some(range) = next else {
                continue;
            };
            if let Err(ended) = copies.beside(control.step(range.end - range.start)).await {
                break Err(ended);
            }
            from = range.end;
            let preserving = Rc::clone(preserving);
            copies.add(async move { preserving.preserve(range).await });
        };
        while !copies.is_empty() {
            // What is under way ends; how does not matter any more.
            let _over = copies.next().await;
        }
        ended
    }
}

/// Whether the top layer has nothing of a range.
async fn is_below<S: Storage>(top: &Layer<S>, from: u64, end: u64) -> Result<bool, Failure> {
    let mut at = from;
    while at < end {
        let piece = top.piece(at, end - at).await?;
        if piece.depth == 0 && piece.held != Held::Nothing {
            return Ok(false);
        }
        at += piece.len;
    }
    Ok(true)
}
