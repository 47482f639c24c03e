//! A change of what a disk is made of.

use crate::qcow2::Layer;
use crate::storage::Storage;

/// One change. Depths are counted from the top, which is 0, as the chain is while the disk is drained.
#[derive(Debug, Clone)]
pub enum Change<S> {
    /// A fresh layer becomes the top, and what was the top is below it: a snapshot. Its backing layer is
    /// the old top already.
    Push(Layer<S>),
    /// The layers at depths `from..to` leave: a stream's or commit's end. The one at `to`, if there is
    /// one, comes next below the one above `from`; it becomes the top if `from` is 0.
    Drop {
        /// The first that leaves.
        from: usize,
        /// The first below that stays.
        to: usize,
    },
    /// A copy takes the whole chain's place: a mirror's pivot.
    Replace(Layer<S>),
}

impl<S: Storage> Change<S> {
    /// The top of the chain afterwards. Backing layers are changed in place.
    pub(super) fn apply(&self, top: &Layer<S>) -> Layer<S> {
        match self {
            Self::Push(layer) | Self::Replace(layer) => layer.clone(),
            Self::Drop { from, to } => {
                let below = top.chain().nth(*to);
                match top.chain().nth(from.wrapping_sub(1)) {
                    Some(above) if *from > 0 => {
                        above.set_backing(below);
                        top.clone()
                    }
                    _ => below.unwrap_or_else(|| top.clone()),
                }
            }
        }
    }
}
