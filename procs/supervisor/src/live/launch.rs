//! Ordering processes from the launcher, and what it answers.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_protocol::launch::{LauncherCommand, LauncherEvent, Layer};
use bulkhead_sys::pidfd::PidFd;

use super::post::{Phase, Role};
use super::process::{Birth, Process};
use super::token::{Part, PostIndex, Token};
use super::{Due, Instance, Outcome};
use crate::refusal::refuse;

/// A process that is not sealed, or whose plan is not live, after this time is broken. Generous:
/// a host that swaps must lose nobody.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The same for one that first has to find the key of an encrypted image: seconds of computing for each slot,
/// on purpose. The block layer refuses headers that would take it longer.
const UNLOCK_LIMIT: Duration = Duration::from_secs(180);

impl Instance {
    /// Orders the process of every post, the slowest to start first.
    pub(super) fn order_all(&mut self) {
        for post in 0..self.posts.len() {
            self.order(post);
        }
    }

    /// Orders a process for a vacant post.
    pub(super) fn order(&mut self, post: PostIndex) {
        let ticket = self.number();
        let now = Instant::now();
        let Some(place) = self.posts.get_mut(post) else {
            return;
        };
        let (process, (channel, log)) = match Process::prepare(ticket, now) {
            Ok(prepared) => prepared,
            Err(error) => return self.fail(format!("no descriptor for a new process: {error}")),
        };
        let command = LauncherCommand::Start {
            ticket,
            class: place.role.class(),
            id: place.id.clone(),
            ordinal: post as u32,
            arguments: place.arguments.clone(),
            cpus: place.cpus.clone(),
        };
        place.phase = Phase::Launching(process);
        let sent = self.launcher.link.send(command, &[channel.as_fd(), log.as_fd()]);
        if let Err(error) = sent {
            return self.fail(format!("the launcher does not listen: {error}"));
        }
        self.watch_launcher();
        self.watch_process(post);
        self.timers.set(now + START_LIMIT, Due::Start(post, ticket));
    }

    /// Allows a process that has its plan a time of its own to say `Ready`.
    pub(super) fn expect_ready(&mut self, post: PostIndex, ticket: u64) {
        let role = self.posts.get(post).map(|post| post.role);
        let limit = match role {
            Some(Role::BlockLayer(disk)) if self.is_encrypted(disk) => UNLOCK_LIMIT,
            _ => START_LIMIT,
        };
        self.timers.set(Instant::now() + limit, Due::Start(post, ticket));
    }

    fn watch_process(&mut self, post: PostIndex) {
        let Some(process) = self.posts.get(post).and_then(|post| post.process()) else {
            return;
        };
        let channel = self.watch(&process.link, Token::Post(post, Part::Channel));
        let log = self.watch(&process.log, Token::Post(post, Part::Log));
        if let Err(error) = channel.and(log) {
            self.fail(format!("a new process cannot be watched: {error}"));
        }
    }

    /// What the launcher says of an order.
    pub(super) fn on_launcher_event(&mut self, event: LauncherEvent, fds: Vec<OwnedFd>) {
        let pidfd = fds.into_iter().next().map(PidFd::from_fd);
        match event {
            LauncherEvent::Ready => {}
            LauncherEvent::Started { ticket, pid, layers, .. } => {
                if let Some(pidfd) = pidfd {
                    self.on_birth(ticket, Birth { pid, pidfd, layers });
                }
            }
            LauncherEvent::Failed { ticket, pid, layer, reason } => {
                if let Some(pidfd) = pidfd {
                    let layers = Vec::new();
                    self.on_birth(ticket, Birth { pid, pidfd, layers });
                }
                self.on_failure(ticket, layer, reason);
            }
        }
    }

    fn post_of(&self, ticket: u64) -> Option<PostIndex> {
        self.posts.iter().position(|post| post.holds(ticket))
    }

    fn on_birth(&mut self, ticket: u64, birth: Birth) {
        let Some(post) = self.post_of(ticket) else {
            // Given up before it was born: nobody reaps it but the kernel, when we end.
            let _ = birth.pidfd.kill();
            return;
        };
        if let Err(error) = self.watch(&birth.pidfd, Token::Post(post, Part::Death)) {
            return self.fail(format!("a new process cannot be watched: {error}"));
        }
        let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) else {
            return;
        };
        if process.condemned.is_some() {
            let _ = birth.pidfd.kill();
        }
        process.birth = Some(birth);
        self.attest_if_complete(post);
    }

    fn on_failure(&mut self, ticket: u64, layer: Option<Layer>, reason: String) {
        if let Some(layer) = layer {
            let remedy =
                format!("use a host that has it, or --allow-weaker-sandbox={}", layer.name());
            let refusal = refuse("sandbox", layer.name(), reason, remedy);
            return self.conclude(Outcome::Refused(refusal));
        }
        let Some(post) = self.post_of(ticket) else {
            return;
        };
        let unborn = self
            .posts
            .get(post)
            .is_some_and(|post| post.process().is_some_and(|process| process.birth.is_none()));
        match unborn {
            // There is nothing to reap: the host could not make a process.
            true => self.never_born(post, reason),
            false => self.condemn(post, reason),
        }
    }

    /// The time of [`START_LIMIT`] is over.
    pub(super) fn start_is_due(&mut self, post: PostIndex, ticket: u64) {
        let Some(place) = self.posts.get(post).filter(|place| place.holds(ticket)) else {
            return;
        };
        match &place.phase {
            Phase::Launching(process) if process.birth.is_none() => {
                self.fail("the launcher does not answer".into());
            }
            Phase::Launching(_) => self.condemn(post, "it was not sealed in time".into()),
            Phase::Planned(_) => self.condemn(post, "it was not ready in time".into()),
            _ => {}
        }
    }
}
