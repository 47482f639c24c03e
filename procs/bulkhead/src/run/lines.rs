//! Events as lines for a person, on stderr.

use bulkhead_protocol::event::EventKind;

/// The line an event is worth, if any.
pub fn line(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::HelperRestarted { role, id, restarts, pause } => {
            let pause = Duration(*pause);
            format!("{}was restarted after a pause of {pause} (restart {restarts})", who(*role, id))
        }
        EventKind::HelperDied { role, id, cause, security, last_words } => {
            let guilt = if *security { ", killed by its filter" } else { "" };
            let words =
                if last_words.is_empty() { String::new() } else { format!(": {last_words}") };
            format!("{}died ({cause}{guilt}){words}", who(*role, id))
        }
        EventKind::HelperHung { role, id } => {
            format!("{}did not answer and was killed", who(*role, id))
        }
        EventKind::Degraded { role, id, reason } => {
            format!("{}is degraded: {reason}; it is tried again every 30 s", who(*role, id))
        }
        EventKind::Quarantined { role, id } => {
            format!("{}is quarantined: its filter killed it again", who(*role, id))
        }
        EventKind::NeedsReset { id, reason } => format!("device {id} needs a reset: {reason}"),
        EventKind::PoisonRequest { id } => {
            format!("a request of {id} that ended three processes was answered with an error")
        }
        EventKind::GuestCrashed { reason } => format!("the guest crashed: {reason}"),
        _ => return None,
    })
}

fn who(role: bulkhead_protocol::class::ProcessClass, id: &str) -> String {
    if id.is_empty() { format!("{role} ") } else { format!("{role} {id} ") }
}

#[derive(Debug)]
struct Duration(u64);

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} ms", self.0 / 1000, self.0 % 1000 / 100)
    }
}
