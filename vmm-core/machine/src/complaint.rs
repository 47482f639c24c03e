//! Where a device complains about the host.
//!
//! A guest's mistake is answered to the guest. But a host that refuses an interrupt route leaves the
//! guest without that interrupt, and there is nobody in the guest to tell: such a line goes to whoever
//! the process named, which is its log.

use std::fmt::Display;
use std::sync::OnceLock;

static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

/// Names the listener for the whole process; the first one stays. It must not block.
pub fn listen(listener: fn(&str)) {
    let _ = LISTENER.set(listener);
}

/// Tells the listener, if there is one, that `what` was lost because the host refused it.
pub fn lost<E: Display>(what: &str, result: Result<(), E>) {
    if let (Err(error), Some(listener)) = (result, LISTENER.get()) {
        listener(&format!("{what} is lost: {error}"));
    }
}
