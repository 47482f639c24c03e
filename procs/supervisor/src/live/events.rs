//! Telling what happened: to the session, and through `control` to every subscriber.
//!
//! Law: nobody's slowness keeps an event from the others. A reader with too much waiting loses events;
//! the end of the instance reaches the session in any case.

use std::time::SystemTime;

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::FromSupervisor;
use bulkhead_protocol::event::{Event, EventKind};
use bulkhead_protocol::session::SessionEvent;

use super::Instance;
use super::machine::Power;
use super::post::{Phase, Role};

impl Instance {
    /// Tells everybody.
    pub(super) fn tell(&mut self, kind: EventKind) {
        let event = self.event(kind);
        if let Some(session) = &mut self.session {
            session.tell(SessionEvent::Happened(event.clone()));
        }
        self.watch_session();
        self.tell_control(event);
    }

    /// Tells a line of a helper's log, or of what it complains about.
    pub(super) fn tell_line(&mut self, role: ProcessClass, id: &str, line: String) {
        let id = id.to_owned();
        self.tell(EventKind::HelperSaid { role, id, line });
    }

    /// An event of this instance, now.
    pub(super) fn event(&self, kind: EventKind) -> Event {
        Event { time: now(), vm: self.plan.name.clone(), kind }
    }

    /// Tells those who asked `control`.
    pub(super) fn tell_control(&mut self, event: Event) {
        let control = self.posts.iter_mut().find(|post| post.role == Role::Control);
        let Some(process) = control.and_then(|post| post.planned_mut()) else {
            return;
        };
        if process.link.has_room() {
            // An error is a death, which the pidfd tells.
            let _ = process.command(FromSupervisor::Happened(event), &[]);
        }
        self.watch_control();
    }

    /// Tells that the instance has started, once everything that belongs to it serves.
    pub(super) fn announce_start(&mut self) {
        let serves =
            |post: &super::Post| matches!(post.phase, Phase::Serving(..) | Phase::Unneeded);
        let machine_runs = self.machine_power() != Some(Power::Starting);
        if !self.started && machine_runs && self.posts.iter().all(serves) {
            self.started = true;
            self.tell(EventKind::Started);
        }
    }
}

/// Microseconds since the epoch.
pub fn now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |time| time.as_micros() as u64)
}
