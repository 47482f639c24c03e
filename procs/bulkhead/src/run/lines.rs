//! Events as lines for a person, on stderr.

use bulkhead_protocol::crash::Crash;
use bulkhead_protocol::event::EventKind;

/// Three rows a terminal's width, of a name and sixteen digits each.
const REGISTERS_A_ROW: usize = 3;

/// The lines an event is worth, if any.
pub fn lines(kind: &EventKind) -> Vec<String> {
    match kind {
        EventKind::GuestCrashed(crash) => of_crash(crash),
        other => line(other).into_iter().collect(),
    }
}

/// What crashed and where, and the registers in rows.
fn of_crash(crash: &Crash) -> Vec<String> {
    let mut lines = vec![format!("the guest crashed: {crash}")];
    let named = crash.registers.iter().flat_map(|registers| registers.named());
    let words: Vec<String> = named.map(|(name, word)| format!("{name:>6} {word:016x}")).collect();
    lines.extend(words.chunks(REGISTERS_A_ROW).map(|row| row.join(" ")));
    lines
}

fn line(kind: &EventKind) -> Option<String> {
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
        EventKind::UnknownInstruction { seen, rip, bytes } => format!(
            "the guest has instructions that the software CPU lacks (met {seen} times, the last at {:#x}: {bytes})",
            rip.0
        ),
        EventKind::SnapshotApplied { id, snapshot } => {
            format!("disk {id} is what it was in snapshot {snapshot}")
        }
        EventKind::DiskResized { id, size } => format!("disk {id} has {size} bytes now"),
        EventKind::ExportAdded { id, export, address } => {
            format!("disk {id} is exported as {export} at {address}")
        }
        EventKind::ExportRemoved { id, export } => format!("export {export} of disk {id} is gone"),
        EventKind::GraphChanged { id, layers } => {
            let names: Vec<_> = layers.iter().map(|layer| layer.display().to_string()).collect();
            format!("disk {id} consists of {} now", names.join(" on "))
        }
        EventKind::BackingMismatch { id, path, named, given } => format!(
            "disk {id}: the header of {} names '{named}' as its backing file, '{given}' is used",
            path.display()
        ),
        EventKind::ServerLost { id, path, reason } => {
            format!("disk {id}: {} is lost: {reason}; its requests wait", path.display())
        }
        EventKind::VerifyMismatch { id, at } => {
            format!("disk {id} does not read as its reference does, from byte {at} on")
        }
        EventKind::ServerBack { id, path } => format!("disk {id}: {} is back", path.display()),
        EventKind::JobReady { id, job } => format!("job {job} on disk {id} is ready"),
        EventKind::JobCompleted { id, job, .. } => format!("job {job} on disk {id} is completed"),
        EventKind::JobCancelled { id, job, .. } => format!("job {job} on disk {id} was cancelled"),
        EventKind::JobFailed { id, job, reason } => {
            format!("job {job} on disk {id} failed: {reason}")
        }
        EventKind::JobRestarted { id, job } => {
            format!("job {job} on disk {id} begins again in its block layer's successor")
        }
        EventKind::BlockErrorOver { id } => format!("disk {id}: nothing waits any more"),
        EventKind::BitmapLost { id, bitmap } => {
            format!("bitmap {bitmap} of disk {id} died with its block layer: copy the disk in full")
        }
        EventKind::BlockError { id, job, operation, errno, paused } => {
            let whose = job.as_ref().map_or_else(String::new, |job| format!(", job {job}"));
            let waits = if *paused { "; it waits" } else { "" };
            format!("disk {id}{whose}: {operation} failed with errno {errno}{waits}")
        }
        EventKind::NeedsReset { id, reason } => format!("device {id} needs a reset: {reason}"),
        EventKind::PoisonRequest { id } => {
            format!("a request of {id} that ended three processes was answered with an error")
        }
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
