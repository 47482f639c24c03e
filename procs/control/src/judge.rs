//! What becomes of a request: the one place where a client's words are judged.
//!
//! Called by [`crate::server`] for each request that decoded. Law: what passes to the supervisor has
//! limits that the supervisor need not check again.

use bulkhead_protocol::VERSION;
use bulkhead_protocol::control::{Request, Response};

/// Longest time that a guest may be given to shut down. Longer ones are slips of the keyboard.
pub const LONGEST_SHUTDOWN_MS: u64 = 24 * 60 * 60 * 1000;

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answered here.
    Answer(Response),
    /// Answered here, and events follow.
    Follow,
    /// The supervisor's to answer.
    Ask(Request),
    /// No client of ours says this: the connection ends, after this sentence.
    Dismiss(String),
}

/// Judges the first request of a connection.
pub fn first(request: &Request) -> Verdict {
    match request {
        Request::Hello { version: VERSION } => Verdict::Answer(Response::Done),
        Request::Hello { version } => Verdict::Dismiss(format!(
            "this instance speaks version {VERSION} of the protocol, the client {version}: use the \
             bulkhead command that started it"
        )),
        _ => Verdict::Dismiss("a connection begins with hello".into()),
    }
}

/// Judges every later one.
pub fn later(request: Request) -> Verdict {
    match request {
        Request::Hello { .. } => Verdict::Dismiss("hello was said before".into()),
        Request::Events => Verdict::Follow,
        Request::Shutdown { timeout_ms } if timeout_ms > LONGEST_SHUTDOWN_MS => {
            let reason = format!("a time-out of {timeout_ms} ms is longer than a day");
            Verdict::Answer(Response::Refused(reason))
        }
        Request::Block(request) => match request.check() {
            Ok(()) => Verdict::Ask(Request::Block(request)),
            Err(malformed) => Verdict::Answer(Response::Refused(malformed.to_string())),
        },
        Request::Processes
        | Request::Status
        | Request::Counters
        | Request::Pause
        | Request::Resume
        | Request::Shutdown { .. }
        | Request::Kill
        | Request::Reset
        | Request::Console => Verdict::Ask(request),
    }
}
