//! Backends of other programs: reached by a socket, lost without a trace, tried again.
//!
//! Their death is told to the guest by NEEDS_RESET; a request that was in flight is never guessed at.

use std::time::{Duration, Instant};

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::core::CoreCommand;
use bulkhead_protocol::event::EventKind;

use super::{Due, Instance, Outcome};
use crate::dial::dial;
use crate::plan::Source;
use crate::refusal::refuse;

/// A foreign backend that went away is tried again after this time, and each further time after twice
/// as long.
pub const FIRST_REDIAL: Duration = Duration::from_secs(1);

/// Longest time between two tries.
const LAST_REDIAL: Duration = Duration::from_secs(30);

impl Instance {
    /// Connects core with another program's backend; `false` if it cannot be reached now.
    pub(super) fn connect_foreign(&mut self, device: usize, disk: usize) -> std::io::Result<bool> {
        let Some(Source::Foreign(foreign)) = self.plan.disks.get(disk).map(|disk| &disk.source)
        else {
            return Ok(false);
        };
        match dial(&foreign.folder, &foreign.name) {
            Ok(front) => {
                self.give_connection(device, front)?;
                Ok(true)
            }
            Err(_) if self.started => {
                self.redial_later(device);
                Ok(false)
            }
            Err(error) => {
                self.refuse_foreign(disk, &format!("nobody answers there: {error}"));
                Ok(false)
            }
        }
    }

    /// A foreign backend is gone, and with it whatever it had not answered.
    pub(super) fn foreign_lost(&mut self, device: usize, reason: String) {
        let Some(here) = self.devices.get(device) else {
            return;
        };
        let (id, first) = (here.plan.id.clone(), here.redial == FIRST_REDIAL);
        let index = device as u16;
        self.tell_core(CoreCommand::DeviceDegraded { device: index }, &[]);
        if first {
            let role = ProcessClass::VhostBlk;
            self.tell(EventKind::Degraded { role, id, reason });
        }
        self.redial_later(device);
    }

    fn redial_later(&mut self, device: usize) {
        if let Some(here) = self.devices.get_mut(device) {
            let due = Instant::now() + here.redial;
            here.redial = (here.redial * 2).min(LAST_REDIAL);
            self.timers.set(due, Due::Redial(device));
        }
    }

    /// A foreign backend is tried again.
    pub(super) fn redial(&mut self, device: usize) {
        self.connect_device(device);
    }

    /// A backend that is no good at the start is the user's to mend.
    pub(super) fn refuse_foreign(&mut self, disk: usize, reason: &str) {
        let Some(planned) = self.plan.disks.get(disk) else {
            return;
        };
        let Source::Foreign(foreign) = &planned.source else {
            return;
        };
        let option = format!("--disk {}", planned.id);
        let value = format!("vhost-user={}", foreign.path.display());
        let remedy = "check the program that serves this socket";
        self.conclude(Outcome::Refused(refuse(option, value, reason, remedy)));
    }
}
