//! Stream: pulls what is below a layer into it, so that it needs the layers in between no more.
//!
//! It adopts ([`Layer::adopt`]) what comes from above the base and is not in the layer yet; requests go on
//! meanwhile, and what they write stays. At the end the layer's backing becomes the base, or nothing.
//!
//! A successor begins it again: what was adopted is not adopted twice.

use std::rc::Rc;

use super::control::{Control, Ended, Side};
use super::copy::LONGEST;
use super::{BackingName, Host};
use crate::disk::{Change, Disk};
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::Storage;

/// The job.
#[derive(Debug)]
pub struct Stream<S> {
    /// Whose chain it is.
    pub disk: Rc<Disk<S>>,
    /// The layer that is filled; it is writable.
    pub into: Layer<S>,
    /// The layer below it that stays its backing; `None`: it is to stand alone.
    pub base: Option<Layer<S>>,
    /// What the header is to name as the base.
    pub name: Option<BackingName>,
}

/// Reading fails below, and space is missing in the layer itself.
fn side(failure: Failure) -> Side {
    if failure == Failure::NO_SPACE { Side::Target } else { Side::Source }
}

impl<S: Storage> Stream<S> {
    pub(super) async fn run(self, control: &Rc<Control>, host: &impl Host<S>) -> Result<(), Ended> {
        let base = match &self.base {
            None => None,
            Some(base) => Some(self.into.depth_of(base).ok_or(Failure::INVALID)?),
        };
        if base == Some(0) || self.into.backing().is_none() {
            return Err(Failure::INVALID.into());
        }
        if base == Some(1) {
            // Nothing lies between, so there is nothing to pull and no other chain to go over to.
            return Ok(());
        }
        match self.fill(control, base).await? {
            None => self.finish(control, host).await,
            // What was passed over is below still, and the chain stays as it is.
            Some(failure) => Err(failure.into()),
        }
    }

    /// Pulls all that is not there yet. `Some`: pieces were left out for this, as the policy wants it.
    async fn fill(&self, control: &Control, base: Option<usize>) -> Result<Option<Failure>, Ended> {
        let size = self.into.size();
        control.set_remaining(size);
        let (mut at, mut cost) = (0, 0);
        let mut left_out = None;
        while at < size {
            control.step(cost).await?;
            let len = (size - at).min(LONGEST);
            let piece = match self.into.piece(at, len).await {
                Ok(piece) => piece,
                Err(failure) if control.passes_over(Side::Source, failure) => {
                    left_out.get_or_insert(failure);
                    at += len;
                    control.progress(len);
                    continue;
                }
                Err(failure) => {
                    // Whatever it is, adopting it would fail alike.
                    control.failed(Side::Source, failure).await?;
                    continue;
                }
            };
            let adopts = piece.depth > 0 && piece.is_above(base);
            if adopts {
                let adopt = async || match self.into.adopt(at, piece.len).await {
                    Err(failure) if control.passes_over(side(failure), failure) => Ok(Err(failure)),
                    Err(failure) => Err((side(failure), failure)),
                    Ok(()) => Ok(Ok(())),
                };
                if let Err(failure) = control.insist(adopt).await? {
                    left_out.get_or_insert(failure);
                }
            }
            cost = if adopts { piece.len } else { 0 };
            at += piece.len;
            control.progress(piece.len);
        }
        Ok(left_out)
    }

    async fn finish(&self, control: &Control, host: &impl Host<S>) -> Result<(), Ended> {
        control.set_pending()?;
        let drained = self.disk.drain().await;
        let top = self.disk.top();
        let depth = top.depth_of(&self.into).ok_or(Failure::INVALID)?;
        let to = match &self.base {
            Some(base) => top.depth_of(base).ok_or(Failure::INVALID)?,
            None => top.chain().count(),
        };
        let Layer::Qcow2(image) = &self.into else {
            return Err(Failure::INVALID.into());
        };
        image.flush().await?;
        let name = self.name.as_ref().map(|name| (name.name.as_str(), name.format.as_str()));
        image.name_backing(name).await?;
        let change = Change::Drop { from: depth + 1, to };
        host.switch(&change).await?;
        self.disk.apply(&change, &drained);
        Ok(())
    }
}
