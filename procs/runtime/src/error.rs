//! Why a helper cannot start or go on.

use bulkhead_channel::ChannelError;

/// What ends a helper. Only [`RuntimeError::Closed`] is no fault: the helper exits 0.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The supervisor closed the channel or said stop.
    #[error("the supervisor has ended this process")]
    Closed,
    /// The supervisor broke the protocol or was silent for too long. Blame: Peer.
    #[error("channel to the supervisor: {0}")]
    Channel(ChannelError),
    /// A step before the seal failed. Blame: Host.
    #[error("{step}: {error}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// Landlock exists here and still refused. Blame: Host.
    #[error("Landlock: {0}")]
    Landlock(String),
    /// No filter of that name was compiled in. Blame: Bug.
    #[error("there is no seccomp profile named {0}")]
    NoProfile(String),
}

impl RuntimeError {
    /// Names the step at which the kernel refused.
    pub(crate) fn at(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Step { step, error }
    }
}

impl From<ChannelError> for RuntimeError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::Closed,
            other => Self::Channel(other),
        }
    }
}
