//! Death at any store, for tests: a process that is killed stops between two stores of its table, so
//! the test's "process" unwinds there and leaves memory as it was.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Places left to pass before death; `None`: immortal.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What unwinds.
struct Death;

/// A place where death may come: before and after each store.
pub(super) fn may_come() {
    LEFT.with(|left| match left.get() {
        None => {}
        Some(0) => {
            left.set(None);
            resume_unwind(Box::new(Death));
        }
        Some(places) => left.set(Some(places - 1)),
    });
}

/// Runs `life` until it ends or passes `places` places; `None` if it was killed.
pub(crate) fn after<T>(places: u32, life: impl FnOnce() -> T) -> Option<T> {
    LEFT.with(|left| left.set(Some(places)));
    let outcome = catch_unwind(AssertUnwindSafe(life));
    LEFT.with(|left| left.set(None));
    match outcome {
        Ok(value) => Some(value),
        Err(reason) if reason.is::<Death>() => None,
        Err(reason) => resume_unwind(reason),
    }
}
