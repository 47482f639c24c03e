//! Those who see every change of a disk: before it is made, after it, or both.

use std::rc::Rc;

use super::Operation;
use crate::bitmap::Bitmap;
use crate::job::{Following, Preserving};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;
use crate::task::Held;

/// Who wants to see changes. Clones are the same watcher.
#[derive(Debug)]
pub enum Watcher<S> {
    /// Marks in a bitmap what was changed.
    Bitmap(Rc<Bitmap>),
    /// A mirror: marks what was changed, or writes it to its target as well.
    Mirror(Rc<Following<S>>),
    /// A backup: copies what is about to be changed.
    Backup(Rc<Preserving<S>>),
}

impl<S> Clone for Watcher<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Bitmap(bitmap) => Self::Bitmap(Rc::clone(bitmap)),
            Self::Mirror(mirror) => Self::Mirror(Rc::clone(mirror)),
            Self::Backup(backup) => Self::Backup(Rc::clone(backup)),
        }
    }
}

impl<S: Storage> Watcher<S> {
    /// A change is about to be made. What is held stays so until it was seen [`after`](Self::after). A
    /// failure: it cannot be made now.
    pub(super) async fn before(&self, operation: &Operation) -> Result<Option<Held<'_>>, Failure> {
        match self {
            Self::Bitmap(_) => Ok(None),
            Self::Mirror(mirror) => Ok(mirror.before(operation).await),
            Self::Backup(backup) => backup.before(operation).await.map(|()| None),
        }
    }

    /// Whether it needs the very bytes that the disk gets: a guest may change its buffer meanwhile.
    pub(super) fn wants_bytes(&self) -> bool {
        matches!(self, Self::Mirror(mirror) if mirror.is_blocking())
    }

    /// A change was made; one that failed may have been made in part.
    pub(super) async fn after(&self, operation: &Operation, outcome: Outcome) {
        match self {
            Self::Bitmap(bitmap) => bitmap.record(operation.range()),
            Self::Mirror(mirror) => mirror.after(operation, outcome).await,
            Self::Backup(_) => {}
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bitmap(one), Self::Bitmap(other)) => Rc::ptr_eq(one, other),
            (Self::Mirror(one), Self::Mirror(other)) => Rc::ptr_eq(one, other),
            (Self::Backup(one), Self::Backup(other)) => Rc::ptr_eq(one, other),
            _ => false,
        }
    }
}
