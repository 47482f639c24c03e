//! A backup by a bitmap: what it says is copied, and what becomes of it.
//!
//! As in QEMU the bitmap is the job's while the job runs: nobody else takes anything out of it, and what the guest
//! writes meanwhile is for the next backup. A job that fails, is cancelled or dies leaves it as if there had been
//! none.

use crate::bitmap::{Bits, Busy};
use crate::disk::{Disk, Marked};
use crate::qcow2::Layer;
use crate::storage::Storage;

/// What becomes of the bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapMode {
    /// It begins anew if the backup succeeds: `sync=incremental`.
    OnSuccess,
    /// It begins anew, and keeps what was not copied.
    Always,
    /// It stays as it is.
    Never,
}

/// The claim of one job on a bitmap, until it is dropped.
#[derive(Debug)]
pub struct ByBitmap<S: Storage> {
    bitmap: Marked<S>,
    mode: BitmapMode,
}

impl<S: Storage> Drop for ByBitmap<S> {
    fn drop(&mut self) {
        if self.mode != BitmapMode::Never {
            self.bitmap.release();
        }
    }
}

impl<S: Storage> ByBitmap<S> {
    /// Claims it, unless it stays as it is.
    pub fn claim(bitmap: Marked<S>, mode: BitmapMode) -> Result<Self, Busy> {
        if mode != BitmapMode::Never {
            bitmap.claim()?;
        }
        Ok(Self { bitmap, mode })
    }

    /// What is to be copied. The disk is drained: no write is in it by half.
    pub(super) fn begin(&self) -> Option<Bits> {
        match self.mode {
            BitmapMode::Never => self.bitmap.bits(),
            BitmapMode::OnSuccess | BitmapMode::Always => self.bitmap.begin(),
        }
    }

    /// The job has ended; `left` was not copied.
    pub(super) async fn end(&self, succeeded: bool, disk: &Disk<S>, left: &Bits) {
        // An image that has left the disk was shut, with all that its bitmaps say, and may be others' by now.
        if let Marked::Image(image, _) = &self.bitmap
            && !matches!(disk.top(), Layer::Qcow2(top) if std::rc::Rc::ptr_eq(&top, image))
        {
            return;
        }
        match (self.mode, succeeded) {
            (BitmapMode::Never, _) | (BitmapMode::OnSuccess, false) => {}
            (BitmapMode::OnSuccess | BitmapMode::Always, true) => self.bitmap.renew(None).await,
            (BitmapMode::Always, false) => self.bitmap.renew(Some(left)).await,
        }
    }
}
