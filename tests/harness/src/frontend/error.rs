//! What a test is told when a handshake fails.

use std::path::PathBuf;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// Nobody listens at the path, until the time-out.
    #[error("cannot connect to {path}: {error}")]
    Connect {
        /// The path.
        path: PathBuf,
        /// What the kernel said last.
        error: std::io::Error,
    },
    /// A message failed: the backend hung up, refused or kept silent.
    #[error("{message} failed: {error}")]
    Message {
        /// Which one.
        message: &'static str,
        /// How.
        error: vhost::Error,
    },
    /// The backend lacks something.
    #[error("the backend {0}")]
    Lacks(String),
    /// Reconnecting: the backend offers other features than before.
    #[error("the backend offered features {before:#x}, its successor {after:#x}")]
    FeaturesChanged {
        /// Before.
        before: u64,
        /// After.
        after: u64,
    },
    /// The host refused.
    #[error(transparent)]
    Host(#[from] std::io::Error),
}

/// Names the message that failed.
pub(super) trait Named<T> {
    /// The result, or which message failed and how.
    fn named(self, message: &'static str) -> Result<T, FrontendError>;
}

impl<T> Named<T> for Result<T, vhost::Error> {
    fn named(self, message: &'static str) -> Result<T, FrontendError> {
        self.map_err(|error| FrontendError::Message { message, error })
    }
}
