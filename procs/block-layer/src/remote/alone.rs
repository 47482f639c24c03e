//! While a graph is opened or closed nobody else is there to wait: its storage on servers waits where it is, and
//! notes whom it has waited for in vain.
//!
//! Shared by the [`Desk`](crate::graph::Desk) and everything on servers that it has opened. A disk that cannot be
//! opened because of a server is not the disk's fault: whoever opens it asks here.

use std::cell::{Cell, RefCell};

use bulkhead_protocol::block::LayerNumber;

/// The layer whose server was not there, and why.
pub type Missed = (LayerNumber, String);

/// See the module.
#[derive(Debug, Default)]
pub struct Alone {
    is_so: Cell<bool>,
    missed: RefCell<Option<Missed>>,
}

impl Alone {
    /// Whether nobody else is there.
    pub fn is_so(&self) -> bool {
        self.is_so.get()
    }

    /// From now on, somebody is or is not.
    pub fn set(&self, alone: bool) {
        self.is_so.set(alone);
    }

    /// The first server that was waited for in vain.
    pub fn missed(&self) -> Option<Missed> {
        self.missed.borrow().clone()
    }

    pub(super) fn miss(&self, layer: LayerNumber, reason: String) {
        self.missed.borrow_mut().get_or_insert((layer, reason));
    }
}
