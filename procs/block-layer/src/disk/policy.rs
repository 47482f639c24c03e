//! What becomes of a failure: `rerror` and `werror` of disks, `on-source-error` and `on-target-error` of
//! jobs, with QEMU's words.

use crate::outcome::Failure;

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Whoever asked is told.
    Report,
    /// It is as if it had succeeded.
    Ignore,
    /// It waits until the operator resumes it.
    Stop,
    /// It waits for space if that is what is missing; anything else is reported.
    Enospc,
}

/// What is done about this failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Tell whoever asked.
    Report,
    /// Go on.
    Ignore,
    /// Wait for the operator.
    Stop,
    /// Wait for space: try again from time to time.
    WaitForSpace,
}

impl OnError {
    /// What it says about `failure`. A dead requester's request is not tried again.
    pub fn action(self, failure: Failure) -> Action {
        match self {
            _ if failure == Failure::DISCARDED => Action::Report,
            Self::Report => Action::Report,
            Self::Ignore => Action::Ignore,
            Self::Stop | Self::Enospc if failure == Failure::NO_SPACE => Action::WaitForSpace,
            Self::Stop => Action::Stop,
            Self::Enospc => Action::Report,
        }
    }
}

/// What a disk does about failures of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Of reads.
    pub reads: OnError,
    /// Of everything else.
    pub writes: OnError,
}

impl Default for Policy {
    /// QEMU's: `rerror=report,werror=enospc`.
    fn default() -> Self {
        Self { reads: OnError::Report, writes: OnError::Enospc }
    }
}
