//! Death: kill, reap, fence, decide.
//!
//! ```text
//! condemned ─► SIGKILL ─► Dying ─┐
//!                                ├─► pidfd readable ─► reaped ─► fence ─► verdict ─► successor
//! died by itself ────────────────┘
//! ```
//!
//! Law: nothing that could start a successor's work is done before the reap.

use std::time::{Duration, Instant};

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::launch::LauncherCommand;
use bulkhead_sys::pidfd::Death;

use super::disk::BLK;
use super::post::{Phase, Role};
use super::process::Process;
use super::token::PostIndex;
use super::{Due, Instance};
use crate::fence::Fence;
use crate::restart::{Cause, Verdict};

/// A killed process that is not reaped after this time waits for its last I/O.
const REAP_LIMIT: Duration = Duration::from_secs(1);

/// Core's complaint about a process that died, or about a connection that is past, is void after this
/// time; a complaint about the present one is not.
const SUSPICION_LIMIT: Duration = Duration::from_secs(1);

/// How one process ended.
struct Fall {
    class: ProcessClass,
    id: String,
    cause: Cause,
    how: String,
    last_words: String,
    degraded_before: bool,
}

impl Instance {
    /// Kills the process of a post for a fault of its own. It is reaped later.
    pub(super) fn condemn(&mut self, post: PostIndex, reason: String) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        if matches!(place.phase, Phase::Dying(_)) {
            return;
        }
        let Some(mut process) = place.vacate() else {
            return;
        };
        place.fell.get_or_insert_with(Instant::now);
        let ticket = process.ticket;
        process.condemned = Some(reason);
        if let Some(birth) = &process.birth {
            let _ = birth.pidfd.kill();
        }
        let _ = self.poller.remove(&process.link);
        place.phase = Phase::Dying(process);
        let limit = Instant::now() + REAP_LIMIT;
        self.timers.set(limit, Due::Reaped(post, ticket));
    }

    /// Ends a process that cannot do yet what it is for. Its successor comes after `pause`.
    pub(super) fn retire(&mut self, post: PostIndex, reason: String, pause: Duration) {
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
            process.retired = Some(pause);
        }
        self.condemn(post, reason);
    }

    /// Core blames a process, of which it may have seen no more than the death.
    pub(super) fn suspect(&mut self, post: PostIndex, reason: String) {
        let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) else {
            return;
        };
        let due = Due::Suspected(post, process.ticket);
        process.suspicion = Some(reason);
        self.timers.set(Instant::now() + SUSPICION_LIMIT, due);
    }

    /// Core has shaken hands with the process: the complaint was about another one.
    pub(super) fn trust(&mut self, post: PostIndex) {
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
            process.suspicion = None;
        }
    }

    /// The time of [`SUSPICION_LIMIT`] is over.
    pub(super) fn suspicion_is_due(&mut self, post: PostIndex, ticket: u64) {
        let Some(place) = self.posts.get_mut(post).filter(|place| place.holds(ticket)) else {
            return;
        };
        if let Some(reason) = place.planned_mut().and_then(|process| process.suspicion.take()) {
            self.condemn(post, format!("core blames it: {reason}"));
        }
    }

    /// A pidfd fired: the process is dead.
    pub(super) fn on_death(&mut self, post: PostIndex) {
        // What it said before it died still counts; what it said last may explain it.
        self.hear_the_rest(post);
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let Some(birth) = place.process().and_then(|process| process.birth.as_ref()) else {
            return;
        };
        let death = match birth.pidfd.reap() {
            Ok(Some(death)) => death,
            Ok(None) => return,
            // Somebody else reaped our child: a bug, and no reason to think that it lives.
            Err(_) => Death::Signaled(0),
        };
        let _ = self.poller.remove(&birth.pidfd);
        let now = Instant::now();
        let degraded_before = place.restart.is_degraded();
        place.fell.get_or_insert(now);
        let Some(mut process) = place.vacate() else {
            return;
        };
        let fall = Fall {
            class: place.role.class(),
            id: place.id.clone(),
            cause: cause(death, &process),
            how: how(death, &process),
            last_words: process.log.last_words(),
            degraded_before,
        };
        let forget = LauncherCommand::Forget { ticket: process.ticket };
        let _ = self.launcher.link.send(forget, &[]);
        // Our ends go before the successor comes: nobody may take them for its.
        drop(process);
        self.reaped(post, now, fall);
    }

    /// The host could not even make the process.
    pub(super) fn never_born(&mut self, post: PostIndex, reason: String) {
        let now = Instant::now();
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        place.vacate();
        let fall = Fall {
            class: place.role.class(),
            id: place.id.clone(),
            cause: Cause::OwnFault,
            how: format!("it could not be started: {reason}"),
            last_words: String::new(),
            degraded_before: place.restart.is_degraded(),
        };
        self.reaped(post, now, fall);
    }

    fn reaped(&mut self, post: PostIndex, now: Instant, fall: Fall) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let role = place.role;
        if let Some((disk, consumer)) = self.unmissed(role, &fall.how, fall.cause) {
            return self.reaped_for_good(post, disk, consumer);
        }
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let never_served = !place.has_served;
        let is_the_machine = matches!(role, Role::Core | Role::SoftCpu(_));
        if is_the_machine || (never_served && !self.started && fall.cause != Cause::Outside) {
            return self.fail(sentence(&fall));
        }
        match fall.cause {
            Cause::OwnFault | Cause::Security => place.own_fault = true,
            Cause::Outside => {}
            // It did nothing, and its users were told of what died before it.
            Cause::Retired(_) => place.own_fault = false,
        }
        let verdict = place.restart.died(now, fall.cause);
        match verdict {
            Verdict::Now => {
                place.restarts += 1;
                self.order(post);
            }
            Verdict::After(wait) | Verdict::Degraded(wait) => {
                place.restarts += 1;
                self.wait_for_successor(post, now + wait);
            }
            Verdict::Quarantined => place.phase = Phase::Quarantined,
        }
        match fall.cause {
            // It had nothing, and that it waits was told.
            Cause::Retired(_) => self.unplanned(role),
            _ => {
                self.lost(role);
                self.tell_of(role, &fall, verdict);
            }
        }
    }

    fn wait_for_successor(&mut self, post: PostIndex, until: Instant) {
        let number = self.number();
        if let Some(place) = self.posts.get_mut(post) {
            place.phase = Phase::Waiting(number);
            self.timers.set(until, Due::Successor(post, number));
        }
    }

    /// The back-off is over.
    pub(super) fn successor_is_due(&mut self, post: PostIndex, number: u64) {
        let waits = |phase: &Phase| matches!(phase, Phase::Waiting(other) if *other == number);
        if self.posts.get(post).is_some_and(|place| waits(&place.phase)) {
            self.order(post);
        }
    }

    /// The other processes learn that this one is gone and reaped.
    fn lost(&mut self, role: Role) {
        match role {
            Role::BlockLayer(disk) => {
                self.unplanned(role);
                self.block_layer_lost(disk);
            }
            Role::Blk(disk) => {
                self.blk_lost(disk);
                self.fenced(disk, BLK, Fence::client_reaped);
            }
            Role::Nbd(disk, consumer) => self.fenced(disk, consumer, Fence::client_reaped),
            Role::Console(device) | Role::Rng(device) => self.device_lost(device),
            Role::Control => {
                self.calls.clear();
                self.counts.clear();
                self.forget_callers();
            }
            Role::Core | Role::SoftCpu(_) | Role::Gdb | Role::Sink(_) => {}
        }
    }

    /// A block-layer is gone, and with it the plan that it had.
    fn unplanned(&mut self, role: Role) {
        if let Role::BlockLayer(disk) = role {
            self.fenced_all(disk, Fence::server_reaped);
            self.introductions_lost(disk);
        }
    }

    fn tell_of(&mut self, role: Role, fall: &Fall, verdict: Verdict) {
        let (class, id) = (fall.class, fall.id.clone());
        self.tell(EventKind::HelperDied {
            role: class,
            id: id.clone(),
            cause: fall.how.clone(),
            security: fall.cause == Cause::Security,
            last_words: fall.last_words.clone(),
        });
        match verdict {
            Verdict::Now | Verdict::After(_) => {}
            Verdict::Degraded(_) if fall.degraded_before => {}
            Verdict::Degraded(_) => {
                let reason = format!("it died 5 times in 10 s, last: {}", fall.how);
                self.tell(EventKind::Degraded { role: class, id, reason });
                self.device_degraded(role);
            }
            Verdict::Quarantined => {
                self.tell(EventKind::Quarantined { role: class, id });
                self.device_degraded(role);
            }
        }
    }

    /// The time of [`REAP_LIMIT`] is over.
    pub(super) fn reaping_is_due(&mut self, post: PostIndex, ticket: u64) {
        let Some(place) = self.posts.get(post).filter(|place| place.holds(ticket)) else {
            return;
        };
        let (role, id) = (place.role.class(), place.id.clone());
        self.tell(EventKind::NotReaped { role, id });
    }
}

fn cause(death: Death, process: &Process) -> Cause {
    match (Cause::of(death, process.condemned.is_some()), process.retired) {
        (Cause::OwnFault, Some(pause)) => Cause::Retired(pause),
        (cause, _) => cause,
    }
}

/// How a process ended, with the supervisor's own reason first.
fn how(death: Death, process: &Process) -> String {
    match &process.condemned {
        Some(reason) => reason.clone(),
        None => death.to_string(),
    }
}

fn sentence(fall: &Fall) -> String {
    let mut text = fall.class.to_string();
    if !fall.id.is_empty() {
        text += &format!(" {}", fall.id);
    }
    text += &format!(" died: {}", fall.how);
    if !fall.last_words.is_empty() {
        text += &format!(" ({})", fall.last_words);
    }
    text
}
