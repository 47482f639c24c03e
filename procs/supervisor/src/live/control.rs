//! The API: plan of `control`, and answers to what its clients ask.
//!
//! `control` has decoded and checked the requests; what it may ask is still decided here. Every
//! answer is immediate, but for those that wait for core's vCPUs to stop or go on, or for soft-cpu to count.

use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::{
    FromSupervisor, InstanceState, ProcessInfo, ProcessState, Request, Response, ToSupervisor,
};
use bulkhead_protocol::core::CoreCommand;
use bulkhead_protocol::event::EndReason;

use super::machine::Power;
use super::post::{Phase, Role};
use super::token::PostIndex;
use super::{Instance, Outcome};
use crate::listener::Listener;

/// Calls that wait for core at one time.
pub(super) const MOST_CALLS: usize = 64;

/// The listening socket of the API.
#[derive(Debug)]
pub struct Api(Listener);

impl Api {
    /// The socket, still hidden.
    pub fn new(listener: Listener) -> Self {
        Self(listener)
    }
}

/// A call that waits for core.
#[derive(Debug)]
pub struct Call {
    number: u64,
    /// Until the vCPUs are stopped, or until they run again.
    until_paused: bool,
}

impl Instance {
    /// Hands control its plan.
    pub(super) fn plan_control(&mut self, post: PostIndex) {
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(FromSupervisor::Plan, &[self.api.0.as_fd()]);
        }
        self.was_planned(post);
    }

    /// Shows the socket to clients.
    pub(super) fn publish_api(&mut self) {
        if let Err(error) = self.api.0.publish() {
            self.fail(format!("the control socket cannot be shown: {error}"));
        }
    }

    fn control(&self) -> Option<PostIndex> {
        self.posts.iter().position(|post| post.role == Role::Control)
    }

    /// Listens for room on control's channel only while something waits.
    pub(super) fn watch_control(&self) {
        if let Some(post) = self.control() {
            self.watch_room(post);
        }
    }

    pub(super) fn answer(&mut self, call: u64, response: Response, fds: &[BorrowedFd<'_>]) {
        let Some(post) = self.control() else {
            return;
        };
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
            let sent = process.command(FromSupervisor::Answer { call, response }, fds);
            if sent.is_err() {
                self.condemn(post, "it does not take its answers".into());
            }
        }
        self.watch_room(post);
    }

    /// A client's request.
    pub(super) fn on_call(&mut self, ToSupervisor { call, request }: ToSupervisor) {
        let response = match request {
            Request::Hello { .. } | Request::Events => refused("control answers this itself"),
            Request::Processes => Response::Processes(self.processes()),
            Request::Status => self.status(),
            Request::Counters => return self.count(call),
            Request::Console => return self.answer_console(call),
            Request::Block(request) => return self.on_block_request(call, *request),
            Request::Kill => {
                self.conclude(Outcome::Ended(EndReason::Killed));
                Response::Done
            }
            Request::Shutdown { timeout_ms } => {
                self.shut_down(timeout_ms);
                Response::Done
            }
            Request::Pause => return self.pause(call, true),
            Request::Resume => return self.pause(call, false),
            Request::Reset if self.machine.is_none() => {
                refused("a storage instance has no machine")
            }
            Request::Reset => {
                self.tell_core(CoreCommand::Reset, &[]);
                Response::Done
            }
        };
        self.answer(call, response, &[]);
    }

    fn pause(&mut self, call: u64, pause: bool) {
        let answer = match (self.machine_power(), pause) {
            (None, _) => refused("a storage instance has no machine"),
            (Some(Power::Starting), _) => refused("the machine does not run yet"),
            (Some(Power::ShuttingDown(_)), _) => refused("the machine is shutting down"),
            (Some(Power::Paused | Power::Crashed), true) | (Some(Power::Running), false) => {
                Response::Done
            }
            (_, false) if self.goes_back_somewhere() => {
                refused("a disk goes back to an internal snapshot")
            }
            _ if self.calls.len() >= MOST_CALLS => refused("too many wait for the machine"),
            (Some(Power::Running), true) | (Some(Power::Paused | Power::Crashed), false) => {
                self.calls.push(Call { number: call, until_paused: pause });
                let command = if pause { CoreCommand::Pause } else { CoreCommand::Resume };
                return self.tell_core(command, &[]);
            }
        };
        self.answer(call, answer, &[]);
    }

    /// Core's vCPUs have stopped, or go on.
    pub(super) fn answer_calls(&mut self, paused: bool) {
        let calls = std::mem::take(&mut self.calls);
        for call in calls {
            let answer = if call.until_paused == paused {
                Response::Done
            } else {
                refused("another request was faster")
            };
            self.answer(call.number, answer, &[]);
        }
    }

    fn answer_console(&mut self, call: u64) {
        match self.new_viewer() {
            Ok(Some(viewer)) => self.answer(call, Response::Console, &[viewer.as_fd()]),
            Ok(None) => {
                let response = refused("its console belongs to the command that runs it");
                self.answer(call, response, &[]);
            }
            Err(error) => self.answer(call, Response::Refused(error.to_string()), &[]),
        }
    }

    fn status(&self) -> Response {
        let machine = self.plan.machine.as_ref();
        Response::Status {
            name: self.plan.name.clone(),
            state: match self.machine_power() {
                _ if self.outcome.is_some() => InstanceState::Ending,
                _ if !self.started => InstanceState::Starting,
                None | Some(Power::Running) => InstanceState::Running,
                Some(Power::Starting) => InstanceState::Starting,
                Some(Power::Paused | Power::Crashed) => InstanceState::Paused,
                Some(Power::ShuttingDown(_)) => InstanceState::ShuttingDown,
            },
            cpus: machine.map_or(0, |machine| machine.cpus),
            memory: machine.map_or(0, |machine| machine.memory),
        }
    }

    fn processes(&self) -> Vec<ProcessInfo> {
        let own = |role, pid| ProcessInfo {
            role,
            id: String::new(),
            pid,
            state: ProcessState::Running,
            restarts: 0,
            layers: Vec::new(),
            cpus: Vec::new(),
        };
        let mut all = vec![
            own(ProcessClass::Supervisor, self.pid),
            own(ProcessClass::Launcher, self.launcher.pid),
        ];
        let needed = |post: &&super::Post| !matches!(post.phase, Phase::Unneeded);
        all.extend(self.posts.iter().filter(needed).map(|post| post.info()));
        all
    }
}

fn refused(reason: &str) -> Response {
    Response::Refused(reason.to_owned())
}
