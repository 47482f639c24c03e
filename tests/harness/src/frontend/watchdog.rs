//! A bound on blocking calls: cuts a connection when its time is up, so that the call ends in error.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Cuts `stream` after the time-out, unless it was dropped before.
pub(super) struct Watchdog {
    _cancel: Sender<()>,
}

impl Watchdog {
    /// Starts to watch.
    pub fn watch(stream: &UnixStream, timeout: Duration) -> std::io::Result<Self> {
        let stream = stream.try_clone()?;
        let (cancel, cancelled) = channel::<()>();
        std::thread::spawn(move || {
            if cancelled.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Ok(Self { _cancel: cancel })
    }
}
