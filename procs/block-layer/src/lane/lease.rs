//! What a lane may do without asking the executor.

use std::sync::Arc;

use super::Mapped;
use crate::image::Image;
use crate::request::Action;

/// The executor's permission to go past the graph. It stays good until the lane has returned it, so a
/// node that changes what it covers revokes it first.
#[derive(Debug, Clone)]
pub enum Lease {
    /// Every action on the whole disk, whose bytes begin at this one of the image.
    Whole(Arc<Image>, u64),
    /// Reads and writes of clusters whose places are known.
    Mapped(Arc<Mapped>),
}

impl Lease {
    /// The image on which `action` may be performed, and the action there; `None`: ask the executor.
    #[inline]
    pub fn covers(&self, action: Action) -> Option<(&Arc<Image>, Action)> {
        match self {
            Self::Whole(image, start) => Some((image, action.moved(*start))),
            Self::Mapped(mapped) => mapped.translate(action),
        }
    }
}
