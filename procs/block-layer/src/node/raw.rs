//! A file or block device as it is: byte `n` of the disk is byte `n` of the image.
//!
//! It has no metadata, so it leases everything and its flights are only those of lanes without a
//! lease, and of its parents.

use std::sync::Arc;

use bulkhead_protocol::device::DiskInfo;

use super::{News, Node, Operands, Step, Steps};
use crate::graph::FlightId;
use crate::image::{Attempt, Image};
use crate::lane::Lease;

/// The node.
#[derive(Debug)]
pub struct Raw {
    image: Arc<Image>,
}

impl Raw {
    /// A node over an open image.
    pub fn new(image: Image) -> Self {
        let image = Arc::new(image);
        Self { image }
    }
}

impl Node for Raw {
    fn info(&self) -> DiskInfo {
        self.image.info()
    }

    fn lease(&self) -> Option<Lease> {
        Some(Lease::Whole(Arc::clone(&self.image)))
    }

    fn start(&mut self, flight: FlightId, operands: &Operands, steps: &mut Steps) {
        let step = match self.image.attempt(operands.action, &operands.arena) {
            Attempt::Done(outcome) => Step::Finish(outcome),
            Attempt::WouldBlock { done } => {
                Step::Work { image: Arc::clone(&self.image), action: operands.action, done }
            }
        };
        steps.ask(flight, step);
    }

    fn resume(&mut self, flight: FlightId, _: &Operands, news: News, steps: &mut Steps) {
        // It asks for work only, so other news does not come.
        if let News::Worked(outcome) = news {
            steps.ask(flight, Step::Finish(outcome));
        }
    }
}
