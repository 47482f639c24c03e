//! Jobs: long work on a disk while it is in use. One `async fn` per kind, over layers and the disk.
//!
//! | job | copies | ends with |
//! | --- | --- | --- |
//! | [`Stream`] | what is below a layer into it | the layers in between leave the chain |
//! | [`Commit`] | layers into one below them | they leave the chain; of an active layer when told to |
//! | [`Mirror`] | the disk, and then its changes | when told to, the copy takes the disk's place |
//! | [`Backup`] | the disk as it was at the beginning | a copy |
//!
//! The executor spawns a job as a task ([`Job::run`]) and commands it by its [`Control`].
//!
//! Law:
//! - A bounded number of copies is under way, and others get a turn between two steps: a job never
//!   starves requests.
//! - A job changes the chain only while the disk is drained, after the [`Host`] has written the change
//!   down, and after everything the new chain needs is durable.
//! - A job that ends early leaves the disk as it is; what it copied is no secret and no harm.

mod backup;
mod commit;
mod control;
mod copy;
mod mirror;
mod stream;

use std::rc::Rc;

pub use backup::{Backup, BitmapMode, ByBitmap, Extent, Preserving};
pub use commit::Commit;
pub use control::{Control, Ended, JobEvent, JobKind, JobState, Settings, Side, Status};
pub use mirror::{CopyMode, Following, Mirror, Sync};
pub use stream::Stream;

use crate::disk::Change;
use crate::outcome::Outcome;
use crate::storage::Storage;

/// Who a job asks for a change of the chain: the executor, or a test.
pub trait Host<S> {
    /// Writes the change down where a successor finds it. The disk is drained and what the new chain
    /// needs is durable; the job makes the change when this has returned, with nothing in between.
    /// A failure: nothing was written down, and the job fails.
    fn switch(&self, change: &Change<S>) -> impl Future<Output = Outcome>;
}

/// What a header names as its backing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingName {
    /// Its name, as text.
    pub name: String,
    /// Its format: `raw`, `qcow2`.
    pub format: String,
}

/// A job that has not begun.
#[derive(Debug)]
pub enum Job<S: Storage> {
    /// See [`Stream`].
    Stream(Stream<S>),
    /// See [`Commit`].
    Commit(Commit<S>),
    /// See [`Mirror`].
    Mirror(Mirror<S>),
    /// See [`Backup`].
    Backup(Backup<S>),
}

impl<S: Storage> Job<S> {
    /// Its kind.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Stream(_) => JobKind::Stream,
            Self::Commit(_) => JobKind::Commit,
            Self::Mirror(_) => JobKind::Mirror,
            Self::Backup(_) => JobKind::Backup,
        }
    }

    /// Does it. The control says where it is and how it ended.
    pub async fn run(self, control: &Rc<Control>, host: &impl Host<S>) -> Result<(), Ended> {
        control.begin();
        let ended = match self {
            Self::Stream(job) => Box::pin(job.run(control, host)).await,
            Self::Commit(job) => Box::pin(job.run(control, host)).await,
            Self::Mirror(job) => Box::pin(job.run(control, host)).await,
            Self::Backup(job) => Box::pin(job.run(control)).await,
        };
        control.conclude(ended);
        ended
    }
}

#[cfg(test)]
pub(crate) use tests::rig;
#[cfg(test)]
mod tests;
