//! Supervisor ↔ sink: the keeper of a detached VM's console output.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

/// To the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkCommand {
    /// First message. Descriptor: the stream whose output is kept and to which input goes.
    Plan {
        /// Bytes of output kept for the next viewer.
        history: u32,
    },
    /// A viewer. Descriptor: a stream socket; it gets the kept output, then what follows.
    Viewer,
    /// The device's process was restarted. Descriptor: its new stream.
    Stream,
}

impl Message for SinkCommand {
    fn fd_count(&self) -> usize {
        1
    }
}
