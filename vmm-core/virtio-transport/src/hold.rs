//! Locking where poison cannot exist: a panic ends the process before anyone sees the lock again.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks.
pub(crate) fn hold<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
