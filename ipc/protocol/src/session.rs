//! The `bulkhead` command ↔ the supervisor it started, on the supervisor's descriptor 3.
//!
//! The supervisor ends its instance when this channel closes, unless the instance is detached.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::event::{EndReason, Event};
use crate::spec::Spec;

/// To the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionCommand {
    /// First message. Descriptors: the directory of the helper binaries, the runtime directory
    /// (`…/bulkhead`), then the serial stream if `serial`, the console stream if `console`, and the trace
    /// stream if `trace`.
    Start {
        /// What is wanted.
        spec: Box<Spec>,
        /// Only make the plan and say it.
        dry_run: bool,
        /// Keep running when the session closes.
        detach: bool,
        /// A stream socket for ttyS0 follows.
        serial: bool,
        /// A stream socket for the virtio-console follows.
        console: bool,
        /// A SOCK_SEQPACKET socket for the trace follows: pieces of text.
        trace: bool,
        /// Width and height of the user's terminal, if there is one.
        size: Option<(u16, u16)>,
    },
    /// The user's terminal changed its size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Press the power button; end the VM after `timeout_ms`.
    Shutdown {
        /// Milliseconds the guest has.
        timeout_ms: u64,
    },
    /// End at once.
    Kill,
}

/// A refusal in a user's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The option at fault (`--disk d0`).
    pub option: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}; {}", self.option, self.value, self.reason, self.remedy)
    }
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// The plan as text (`--dry-run`), in pieces; an empty piece ends it, and the supervisor exits.
    Plan(String),
    /// The spec or the host does not allow it: exit code 2, nothing was left behind.
    Refused(Refusal),
    /// Something happened.
    Happened(Event),
    /// It has ended; the supervisor exits.
    Ended(EndReason),
}

impl Message for SessionCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Start { serial, console, trace, .. } => {
                2 + usize::from(*serial) + usize::from(*console) + usize::from(*trace)
            }
            _ => 0,
        }
    }
}

impl Message for SessionEvent {}
