//! Where the levels of buckets are: in this process, or in a memory object that the disks of a group share.
//!
//! The object is made by the supervisor and sealed; each member adds to it what it lets pass. Two that look
//! at the same moment both let a request pass: the next ones wait the longer.
//!
//! A member that was taken over can fill the buckets of the others, and so hold them up. That is what a group
//! is: whoever puts disks into one lets each of them use up what all have.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulkhead_protocol::filters::{GROUP_BYTES, LEVELS};
use bulkhead_sys::mapping::{Rights, SharedMapping};

/// See the module.
#[derive(Debug)]
pub enum Levels {
    /// Of one disk.
    Own([AtomicU64; LEVELS]),
    /// Of a group.
    Shared(SharedMapping),
}

impl Default for Levels {
    fn default() -> Self {
        Self::Own(Default::default())
    }
}

/// The object is none of a group. The supervisor is to blame: `Bug`.
#[derive(Debug, thiserror::Error)]
pub enum LevelsError {
    /// It cannot be mapped.
    #[error("the levels of a throttle group cannot be mapped: {0}")]
    Host(#[from] std::io::Error),
    /// Its seals or its length.
    #[error("the levels of a throttle group are wrong: {0}")]
    Object(#[from] bulkhead_sys::memfd::SealError),
}

impl Levels {
    /// Those of a group.
    pub fn shared(object: &OwnedFd) -> Result<Self, LevelsError> {
        bulkhead_sys::memfd::verify_sealed(object.as_fd(), GROUP_BYTES)?;
        Ok(Self::Shared(SharedMapping::map(object, GROUP_BYTES as usize, Rights::ReadWrite)?))
    }

    /// The time: all members of a group have the same.
    pub(super) fn now(&self, own: Duration) -> Duration {
        match self {
            Self::Own(_) => own,
            Self::Shared(_) => bulkhead_sys::clock::monotonic(),
        }
    }

    /// When a bucket is empty.
    pub(super) fn empty_at(&self, place: usize) -> Duration {
        let level = self.place(place).map_or(0, |level| level.load(Ordering::Relaxed));
        Duration::from_nanos(level)
    }

    /// Fills a bucket by what leaks within `time`.
    pub(super) fn fill(&self, place: usize, now: Duration, time: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (now, time) = (nanos(now), nanos(time));
        if let Some(level) = self.place(place) {
            let filled = |level: u64| Some(level.max(now).saturating_add(time));
            let _always = level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, filled);
        }
    }

    fn place(&self, place: usize) -> Option<&AtomicU64> {
        match self {
            Self::Own(levels) => levels.get(place),
            Self::Shared(object) => object.atomic_u64(place * size_of::<u64>()).ok(),
        }
    }
}
