//! Descriptors that go with a message. They are shared with whoever else uses them (RAM, doorbells).

use std::os::fd::AsFd;
use std::sync::Arc;

/// A descriptor on its way to the backend.
pub(crate) type Attached = Arc<dyn AsFd + Send + Sync>;
