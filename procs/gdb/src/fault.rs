//! What goes wrong, by whom it is paid for.

use std::io;

use bulkhead_channel::ChannelError;
use bulkhead_runtime::RuntimeError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The client's session ends: core does not do what it asks.
    #[error("core refuses: {0}")]
    Refused(String),
    /// The process ends: core broke the protocol, or is gone.
    #[error("core: {0}")]
    Core(#[from] ChannelError),
    /// The process ends: core answers something else.
    #[error("core: it answers what was not asked")]
    Answer,
    /// The process ends, or is told to.
    #[error(transparent)]
    Supervisor(#[from] RuntimeError),
    /// The process ends: the host refuses.
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl Fault {
    /// Whether only the client pays for it.
    pub fn is_the_clients(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
