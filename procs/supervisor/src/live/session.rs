//! The command that started us.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::device::ConsoleCommand;
use bulkhead_protocol::event::EndReason;
use bulkhead_protocol::session::{SessionCommand, SessionEvent};
use bulkhead_sys::clock::Deadline;

use super::link::Link;
use super::post::Role;
use super::token::Token;
use super::{Instance, Outcome};

/// What SIGTERM gives the guest, as `bulkhead shutdown` does by default.
const SIGTERM_TIMEOUT_MS: u64 = 30_000;

/// What the session said at the start, beside the spec.
#[derive(Debug)]
pub struct Terms {
    /// The instance outlives its session, from the moment at which it has started.
    pub detach: bool,
    /// The user's stream for ttyS0.
    pub serial: Option<OwnedFd>,
    /// The user's stream for the console.
    pub console: Option<OwnedFd>,
    /// The command's end of the trace.
    pub trace: Option<OwnedFd>,
    /// Columns and rows of the user's terminal.
    pub size: (u16, u16),
}

/// The session.
#[derive(Debug)]
pub struct Session {
    link: Link,
    detach: bool,
    size: (u16, u16),
}

impl Session {
    /// The session on `channel`, under `terms`.
    pub fn new(channel: Channel, terms: &Terms) -> Self {
        Self { link: Link::new(channel), detach: terms.detach, size: terms.size }
    }

    /// Sends an event, unless too many wait already.
    pub fn tell(&mut self, event: SessionEvent) {
        if self.link.has_room() {
            // An error is the end of the session, which is read from it.
            let _ = self.link.send(event, &[]);
        }
    }

    /// Sends the last event, waiting for room until `deadline`.
    pub fn tell_last(&mut self, event: SessionEvent, deadline: Deadline) {
        let _ = self.link.send(event, &[]);
        while self.link.is_full() && !deadline.has_passed() {
            std::thread::yield_now();
            if self.link.flush().is_err() {
                return;
            }
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl Instance {
    /// News from the session, or room for what waits.
    pub(super) fn on_session(&mut self, writable: bool) {
        loop {
            let Some(session) = &mut self.session else {
                return;
            };
            if writable && session.link.flush().is_err() {
                return self.session_closed();
            }
            match session.link.receive::<SessionCommand>() {
                Ok(Some((command, _))) => self.obey(command),
                Ok(None) => return self.watch_session(),
                Err(ChannelError::Closed) => return self.session_closed(),
                Err(error) => {
                    return self.fail(format!("the command cannot be understood: {error}"));
                }
            }
        }
    }

    /// Listens for room only while something waits.
    pub(super) fn watch_session(&self) {
        if let Some(session) = &self.session {
            let interest = super::interest(&session.link);
            let _ = self.poller.modify(session, Token::Session.encode(), interest);
        }
    }

    fn obey(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::Start { .. } => self.fail("the command started us twice".into()),
            SessionCommand::Resize { columns, rows } => self.resize(columns, rows),
            SessionCommand::Shutdown { timeout_ms } => self.shut_down(timeout_ms),
            SessionCommand::Kill => self.conclude(Outcome::Ended(EndReason::Killed)),
        }
    }

    /// A command that dies takes its instance with it, unless it has detached.
    fn session_closed(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let _ = self.poller.remove(&session);
        if !(session.detach && self.started) {
            self.conclude(Outcome::Ended(EndReason::Killed));
        }
    }

    /// SIGTERM and its like.
    pub(super) fn on_signal(&mut self) {
        if self.signals.came() {
            self.shut_down(SIGTERM_TIMEOUT_MS);
        }
    }

    /// Columns and rows of the user's terminal; zeroes if unknown.
    pub(super) fn session_size(&self) -> (u16, u16) {
        self.session.as_ref().map_or((0, 0), |session| session.size)
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        if let Some(session) = &mut self.session {
            session.size = (columns, rows);
        }
        let console = self.posts.iter().position(|post| matches!(post.role, Role::Console(_)));
        if let Some(post) = console {
            if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
                let _ = process.command(ConsoleCommand::Resize { columns, rows }, &[]);
            }
            self.watch_room(post);
        }
    }
}
