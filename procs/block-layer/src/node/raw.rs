//! A file or block device as it is: byte `n` of the disk is byte `n` of the image.
//!
//! It has no metadata, so it leases everything, and only requests of lanes without a lease come here.

use std::rc::Rc;
use std::sync::Arc;

use bulkhead_protocol::device::DiskInfo;

use super::Operands;
use crate::graph::Desk;
use crate::image::{Call, Image};
use crate::lane::Lease;
use crate::outcome::Outcome;

/// The node.
#[derive(Debug)]
pub struct Raw {
    image: Arc<Image>,
    desk: Rc<Desk>,
}

impl Raw {
    /// A node over an open image.
    pub fn new(image: Image, desk: Rc<Desk>) -> Self {
        Self { image: Arc::new(image), desk }
    }

    pub(super) fn info(&self) -> DiskInfo {
        self.image.info()
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        Some(Lease::Whole(Arc::clone(&self.image)))
    }

    pub(super) async fn perform(&self, operands: &Operands) -> Outcome {
        let call = Call::Request { action: operands.action, arena: operands.arena.clone() };
        self.desk.call(&self.image, call, &operands.revoked).await
    }
}
