//! The end: everybody killed and reaped, everything removed, the session told.
//!
//! ```text
//! subscribers told ─► core, devices: killed ─► block-layers, sinks, control, gdb: stop, then killed
//!   ─► launcher: killed ─► children nobody knows: gone with their channels
//!   ─► sockets, cgroups, folder: removed ─► the session told
//! ```
//!
//! This part may wait, each time for a bounded while: there is nobody left to be served.

use std::time::{Duration, Instant};

use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::launch::LauncherEvent;
use bulkhead_protocol::session::SessionEvent;
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::pidfd::PidFd;
use bulkhead_sys::readiness;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::post::Role;
use super::process::Process;
use super::{Instance, Outcome};

/// What a block-layer has to finish what it does, and control and gdb to pass on the last event.
const GRACE: Duration = Duration::from_millis(300);

/// What the kernel has to end a killed process, before the session is told all the same.
const REAP: Duration = Duration::from_secs(3);

/// What the session has to take the last event.
const LAST_WORD: Duration = Duration::from_millis(500);

impl Instance {
    /// Tears the instance down.
    pub(super) fn finish(mut self) {
        self.tell_subscribers();
        let (gentle, rest): (Vec<_>, Vec<_>) = (0..self.posts.len())
            .filter_map(|post| {
                let place = self.posts.get_mut(post)?;
                let gentle = matches!(
                    place.role,
                    Role::BlockLayer(_) | Role::Sink(_) | Role::Control | Role::Gdb
                );
                Some((gentle, place.vacate()?))
            })
            .partition(|(gentle, _)| *gentle);
        let processes = |of: Vec<(bool, Process)>| of.into_iter().map(|(_, process)| process);
        let mut gentle: Vec<Process> = processes(gentle).collect();
        for process in &mut gentle {
            let _ = process.stop();
        }
        let mut alive: Vec<PidFd> = processes(rest).filter_map(killed).collect();
        reap(&mut alive, Deadline::after(REAP));
        let births = gentle.into_iter().filter_map(|process| process.birth);
        let mut stopping: Vec<PidFd> = births.map(|birth| birth.pidfd).collect();
        reap(&mut stopping, Deadline::after(GRACE));
        alive.append(&mut stopping);
        alive.extend(self.end_launcher());
        for pidfd in &alive {
            let _ = pidfd.kill();
        }
        reap(&mut alive, Deadline::after(REAP));
        reap_unknown(Deadline::after(GRACE));
        self.farewell();
    }

    fn tell_subscribers(&mut self) {
        if let Some(Outcome::Ended(reason)) = &self.outcome {
            let kind = EventKind::Ended { reason: reason.clone() };
            let event = self.event(kind);
            self.tell_control(event);
        }
    }

    /// Kills the launcher; what it started last and nobody heard of is returned.
    fn end_launcher(&mut self) -> Vec<PidFd> {
        let _ = self.launcher.pidfd.kill();
        let deadline = Deadline::after(REAP);
        while let Ok(None) = self.launcher.pidfd.reap() {
            let _ = readiness::wait_readable(
                [std::os::fd::AsFd::as_fd(&self.launcher.pidfd)],
                Some(deadline.remaining()),
            );
            if deadline.has_passed() {
                break;
            }
        }
        let mut unheard = Vec::new();
        while let Ok(Some((event, fds))) = self.launcher.link.receive::<LauncherEvent>() {
            if matches!(event, LauncherEvent::Started { .. } | LauncherEvent::Failed { .. }) {
                unheard.extend(fds.into_iter().map(PidFd::from_fd));
            }
        }
        unheard
    }

    /// Removes what others can see, then tells the session.
    fn farewell(mut self) {
        let last = match self.outcome.take() {
            Some(Outcome::Refused(refusal)) => Some(SessionEvent::Refused(refusal)),
            Some(Outcome::Ended(reason)) => Some(SessionEvent::Ended(reason)),
            None => None,
        };
        let session = self.session.take();
        // Sockets, cgroup folders and the instance's folder go with their owners.
        drop(self);
        if let (Some(mut session), Some(last)) = (session, last) {
            session.tell_last(last, Deadline::after(LAST_WORD));
        }
    }
}

fn killed(process: Process) -> Option<PidFd> {
    let birth = process.birth?;
    let _ = birth.pidfd.kill();
    Some(birth.pidfd)
}

/// Reaps until all are gone or the time is over; who is left stays in `alive`.
fn reap(alive: &mut Vec<PidFd>, deadline: Deadline) {
    loop {
        alive.retain(|pidfd| matches!(pidfd.reap(), Ok(None)));
        let Some(first) = alive.first() else {
            return;
        };
        if deadline.has_passed() {
            return;
        }
        let _ =
            readiness::wait_readable([std::os::fd::AsFd::as_fd(first)], Some(deadline.remaining()));
    }
}

/// Reaps children that the launcher made and never told of: they end when they find their channel
/// closed.
fn reap_unknown(deadline: Deadline) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    loop {
        match waitid(Id::All, flags) {
            Ok(WaitStatus::StillAlive) if !deadline.has_passed() => {
                let pause = Instant::now() + Duration::from_millis(2);
                while Instant::now() < pause {
                    std::thread::yield_now();
                }
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
