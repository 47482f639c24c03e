//! Mirror: copies the disk to a target, then keeps the target up to date until it is told to end.
//!
//! ```text
//! (zero the target) ─▶ follow ─▶ mark what is there ─▶ copy what is marked ─▶ ready
//!                                                        ▲        │ changes      │ complete
//!                                                        └────────┘              ▼
//!                                                            drain, copy the rest, pivot
//! ```
//!
//! [`Following`] sees the disk's changes and marks them; [`Pursuit`](pursuit) copies what is marked. In
//! write-blocking mode a change reaches the target before it is answered, and the rest can only shrink.
//!
//! Completed, the target takes the place of the whole chain. A successor begins from the beginning, but
//! for `sync=none`, whose beginning is past.

mod following;
pub(super) mod pursuit;

use std::rc::Rc;

use super::Host;
use super::control::{Control, Ended, Side};
use super::copy::LONGEST;
use crate::disk::{Change, Disk};
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::Storage;

pub use following::Following;
use pursuit::Pursuit;

/// Usual granularity where the target has no clusters.
const GRANULARITY: u64 = 64 << 10;

/// What is copied of the disk that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Everything.
    Full,
    /// What is in the top layer.
    Top,
    /// Nothing: changes only.
    None,
}

/// When changes reach the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMode {
    /// Later.
    Background,
    /// Before they are answered.
    WriteBlocking,
}

/// The job.
#[derive(Debug)]
pub struct Mirror<S> {
    /// What is copied.
    pub disk: Rc<Disk<S>>,
    /// Where it is copied to: writable, of the disk's size, and no part of its chain.
    pub target: Layer<S>,
    /// What of it.
    pub sync: Sync,
    /// When changes follow.
    pub mode: CopyMode,
    /// Bytes by which changes are marked: a power of two between 512 and 64 MiB. Usually the target's
    /// clusters, or 64 KiB.
    pub granularity: Option<u64>,
    /// The target reads as zeroes: it was just made.
    pub target_is_zero: bool,
}

impl<S: Storage> Mirror<S> {
    /// What is wrong with it, if anything is: for whoever is to be told before it begins.
    pub fn refuse(&self) -> Result<(), String> {
        let (size, target) = (self.disk.size(), self.target.size());
        if size != target {
            return Err(format!(
                "the target has {target} bytes and the disk {size}; give a target of the same size"
            ));
        }
        if self.disk.top().depth_of(&self.target).is_some() {
            return Err("the target is a part of the disk's own chain".to_owned());
        }
        match self.granularity {
            Some(bytes) if !bytes.is_power_of_two() || !(512..=64 << 20).contains(&bytes) => {
                Err(format!("granularity {bytes}: give a power of two between 512 and 64M"))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn run(self, control: &Rc<Control>, host: &impl Host<S>) -> Result<(), Ended> {
        self.refuse().map_err(|_| Failure::INVALID)?;
        if self.sync == Sync::Full && !self.target_is_zero {
            self.zero_target(control).await?;
        }
        let base = match self.sync {
            Sync::Top => self.disk.top().backing(),
            Sync::Full | Sync::None => None,
        };
        let usual = self.target.cluster_size().map_or(GRANULARITY, |cluster| cluster.max(4096));
        let following = Following::new(
            self.target.clone(),
            base,
            self.granularity.unwrap_or(usual),
            self.mode,
            Rc::clone(control),
        );
        let pursuit = Pursuit::begin(&self.disk, &Rc::new(following)).await;
        if self.sync != Sync::None {
            pursuit.mark_all().await?;
        }
        pursuit.run(host, |_| Some(Change::Replace(self.target.clone()))).await
    }

    async fn zero_target(&self, control: &Control) -> Result<(), Ended> {
        let size = self.target.size();
        let mut at = 0;
        while at < size {
            control.step(0).await?;
            let len = (size - at).min(64 * LONGEST);
            let zero = async || {
                let zeroed = self.target.zero(at, len, true).await;
                zeroed.map_err(|failure| (Side::Target, failure))
            };
            control.insist(zero).await?;
            at += len;
        }
        Ok(())
    }
}
