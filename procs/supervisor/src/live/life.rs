//! From seal to service: what a process says, is attested for, and is handed.

use std::time::{Duration, Instant};

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::launch::Layer;
use bulkhead_protocol::start::SealReport;
use bulkhead_runtime::RuntimeError;

use super::disk::BLK;
use super::log::Heard;
use super::post::{Phase, Role};
use super::process::{Deaf, News};
use super::token::{Part, PostIndex, Token};
use super::{Due, Instance, Outcome, launcher};
use crate::attest::{Expected, Fault};
use crate::fence::Fence;
use crate::heartbeat::{Answer, Heartbeat};
use crate::refusal::refuse;

/// Messages taken from one process before the others get their turn.
const TURN: usize = 16;

/// Messages taken from a process that is dead: more than fit into the buffer of a socket.
const LAST_WORDS: usize = 4096;

/// A process that closed its channel is given this long to be dead.
const SILENCE_LIMIT: Duration = Duration::from_millis(200);

impl Instance {
    /// News on a helper's channel, or room for what waits.
    pub(super) fn on_channel(&mut self, post: PostIndex, writable: bool) {
        if writable {
            self.flush(post);
        }
        self.hear(post, TURN);
    }

    /// Takes what a process that is dead has said, all of it.
    pub(super) fn hear_the_rest(&mut self, post: PostIndex) {
        self.hear(post, LAST_WORDS);
    }

    fn hear(&mut self, post: PostIndex, most: usize) {
        for _ in 0..most {
            let Some(place) = self.posts.get_mut(post) else {
                return;
            };
            let class = place.role.class();
            let process = match &place.phase {
                // A condemned process has nothing to say any more.
                Phase::Dying(_) => return,
                _ => place.process_mut(),
            };
            let Some(process) = process else {
                return;
            };
            match process.hear(class, Instant::now()) {
                Ok(Some(news)) => self.on_news(post, news),
                Ok(None) => return,
                Err(Deaf::Closed) => return self.fell_silent(post),
                Err(deaf) => return self.condemn(post, deaf.to_string()),
            }
        }
    }

    fn flush(&mut self, post: PostIndex) {
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            // An error is a death, which the pidfd tells.
            let _ = process.link.flush();
        }
        self.watch_room(post);
    }

    /// Listens for room on a channel only while something waits.
    pub(super) fn watch_room(&self, post: PostIndex) {
        if let Some(process) = self.posts.get(post).and_then(|post| post.process()) {
            let token = Token::Post(post, Part::Channel).encode();
            let _ = self.poller.modify(&process.link, token, super::interest(&process.link));
        }
    }

    /// It is dying, or broken. Its pidfd is asked first, so that a death from outside is not taken
    /// for a fault.
    pub(super) fn fell_silent(&mut self, post: PostIndex) {
        let Some(process) = self.posts.get(post).and_then(|post| post.process()) else {
            return;
        };
        let _ = self.poller.remove(&process.link);
        let due = Due::Silent(post, process.ticket);
        self.timers.set(Instant::now() + SILENCE_LIMIT, due);
    }

    /// A process that closed its channel had time to be dead.
    pub(super) fn silence_is_over(&mut self, post: PostIndex, ticket: u64) {
        if self.posts.get(post).is_some_and(|place| place.holds(ticket)) {
            self.condemn(post, Deaf::Closed.to_string());
        }
    }

    fn on_news(&mut self, post: PostIndex, news: News) {
        match news {
            News::Sealed(report) => self.on_sealed(post, report),
            News::Ready => self.on_ready(post),
            News::Alive { number, progress } => self.on_alive(post, number, progress),
            News::Progressed => self.on_progress(post),
            News::Core(event) => self.on_core(post, event),
            News::SoftCpu(event) => self.on_soft_cpu(event),
            News::Device(event) => self.on_device(post, event),
            News::Block(event) => self.on_block(post, event),
            News::Nbd(event) => self.on_nbd(post, event),
            News::Control(call) => self.on_call(call),
        }
    }

    fn on_sealed(&mut self, post: PostIndex, report: SealReport) {
        match self.posts.get_mut(post).map(|place| &mut place.phase) {
            Some(Phase::Launching(process)) if process.seal.is_none() => {
                process.seal = Some(report);
                self.attest_if_complete(post);
            }
            _ => self.condemn(post, "it was sealed twice".into()),
        }
    }

    /// Attests a process as soon as both its pid and its report are there.
    pub(super) fn attest_if_complete(&mut self, post: PostIndex) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let (Phase::Launching(process), class) = (&place.phase, place.role.class()) else {
            return;
        };
        let (Some(birth), Some(report), None) = (&process.birth, &process.seal, &process.condemned)
        else {
            return;
        };
        let expected = Expected {
            class,
            given: process.given,
            layers: &birth.layers,
            weaker: &self.plan.weaker,
        };
        match self.proc.attest(birth.pid, report, &expected) {
            Ok(()) => {
                if let Phase::Launching(process) =
                    std::mem::replace(&mut place.phase, Phase::Vacant)
                {
                    place.phase = Phase::Sealed(process);
                }
                self.plan_post(post);
            }
            Err(Fault::Missing { layer, why }) => self.refuse_layer(class, layer, &why),
            Err(fault) => self.condemn(post, format!("it is not what it must be: {fault}")),
        }
    }

    /// The supervisor itself cannot be sealed: nothing runs under it. That the launcher may have failed
    /// by the same lack a moment before is no other reason.
    pub fn refuse_unsealed(&mut self, reason: &RuntimeError) {
        let remedy = "use a host, or an outer sandbox, that has seccomp filters";
        let refusal = refuse("sandbox", "seccomp", format!("supervisor: {reason}"), remedy);
        self.outcome = Some(Outcome::Refused(refusal));
    }

    fn refuse_layer(&mut self, class: ProcessClass, layer: Layer, reason: &str) {
        let name = layer.name();
        let remedy = format!("use a host that has it, or --allow-weaker-sandbox={name}");
        let refusal = refuse("sandbox", name, format!("{class}: {reason}"), remedy);
        self.conclude(Outcome::Refused(refusal));
    }

    /// Hands its plan to a process that was attested, now or when the rest is ready for it.
    fn plan_post(&mut self, post: PostIndex) {
        match self.posts.get(post).map(|place| place.role) {
            Some(Role::Core) => self.plan_core(post),
            Some(Role::SoftCpu(_)) => self.plan_soft_cpu(post),
            Some(Role::Gdb) => self.plan_gdb(post),
            Some(Role::Control) => self.plan_control(post),
            Some(Role::Sink(stream)) => self.plan_sink(post, stream),
            Some(Role::Console(device)) => self.plan_console(post, device),
            Some(Role::Rng(device)) => self.plan_rng(post, device),
            Some(Role::BlockLayer(disk)) => self.block_layer_waits(disk),
            Some(Role::Blk(disk)) => self.fenced(disk, BLK, Fence::client_waits),
            Some(Role::Nbd(disk, consumer)) => {
                self.fenced(disk, consumer, Fence::client_waits);
            }
            None => {}
        }
    }

    /// The plan was sent: the phase follows, and so does the time for `Ready`.
    pub(super) fn was_planned(&mut self, post: PostIndex) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        match std::mem::replace(&mut place.phase, Phase::Vacant) {
            Phase::Sealed(process) => {
                let ticket = process.ticket;
                place.phase = Phase::Planned(process);
                self.expect_ready(post, ticket);
                self.watch_room(post);
            }
            other => place.phase = other,
        }
    }

    fn on_ready(&mut self, post: PostIndex) {
        let now = Instant::now();
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        match std::mem::replace(&mut place.phase, Phase::Vacant) {
            Phase::Planned(process) => {
                place.phase = Phase::Serving(process, Heartbeat::new(now));
                place.has_served = true;
                place.own_fault = false;
                let repaired = place.fell.take();
                let (role, id, restarts) = (place.role, place.id.clone(), place.restarts);
                self.serves(post, role);
                if let Some(fell) = repaired {
                    let pause = now.saturating_duration_since(fell).as_micros() as u64;
                    let role = role.class();
                    self.tell(EventKind::HelperRestarted { role, id, restarts, pause });
                }
            }
            other => {
                place.phase = other;
                self.condemn(post, "it is ready without a plan".into());
            }
        }
    }

    fn serves(&mut self, post: PostIndex, role: Role) {
        match role {
            Role::Control => {
                self.publish_api();
                self.serve_exports();
                self.serve_all_nbd();
            }
            Role::Blk(disk) => self.serve_export(disk),
            Role::Nbd(disk, consumer) => self.serve_nbd(disk, consumer),
            Role::Gdb => self.publish_gdb(),
            _ => {}
        }
        let _ = post;
        self.announce_start();
    }

    fn on_alive(&mut self, post: PostIndex, number: u64, progress: u64) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let Phase::Serving(_, heartbeat) = &mut place.phase else {
            return;
        };
        match heartbeat.answered(Instant::now(), number, progress) {
            Answer::Alive => {}
            Answer::Well => place.restart.progressed(),
            Answer::Nonsense => self.condemn(post, "it answers what was never asked".into()),
        }
    }

    fn on_progress(&mut self, post: PostIndex) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        match place.phase {
            Phase::Serving(..) => place.restart.progressed(),
            _ => self.condemn(post, "it made progress before it was ready".into()),
        }
    }

    /// Lines on a helper's log.
    pub(super) fn on_log(&mut self, post: PostIndex) {
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let (class, id) = (place.role.class(), place.id.clone());
        let Some(process) = place.process_mut() else {
            return;
        };
        let (lines, rest) = match process.log.read(Instant::now()) {
            Heard::Lines(lines) => (lines, None),
            Heard::TooMuch(lines) => (lines, Some(Due::Log(post, process.ticket))),
            Heard::Closed => {
                let _ = self.poller.remove(&process.log);
                return;
            }
        };
        if let Some(due) = rest {
            let _ = self.poller.remove(&process.log);
            self.timers.set(Instant::now() + launcher::LOG_REST, due);
        }
        for line in lines {
            self.tell_line(class, &id, line);
        }
    }

    /// A helper's log has rested.
    pub(super) fn log_again(&mut self, post: PostIndex, ticket: u64) {
        if let Some(place) = self.posts.get(post).filter(|place| place.holds(ticket))
            && let Some(process) = place.process()
        {
            let _ = self.watch(&process.log, Token::Post(post, Part::Log));
        }
    }
}
