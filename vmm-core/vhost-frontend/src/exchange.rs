//! Questions and answers over the one socket: who asked what, and until when an answer is good.
//!
//! Answers come in the order of the questions (the protocol knows no other), so questions are sent
//! without waiting. A question that is not answered in time, an answer that nobody asked for, and an
//! answer of the wrong form are faults.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use vhost::vhost_user::message::FrontendReq;

use crate::fault::Fault;
use crate::inbox::Inbox;
use crate::message::{Answer, Header, Message, NEED_REPLY};
use crate::outbox::Outbox;
use crate::reply::{Reply, decode};

/// A full socket is tried again this often, rather than watched: no honest backend lets it fill.
const RETRY: Duration = Duration::from_millis(10);

/// Who looks at a deadline later than this was not running himself (a frozen or overloaded machine) and
/// may not blame the backend, which was perhaps not running either.
const PUNCTUAL: Duration = Duration::from_millis(100);

/// What a backend is given in that case, from then on.
const GRACE: Duration = Duration::from_secs(1);

/// What a question is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Shaking hands.
    Handshake,
    /// Starting the queues.
    Start,
    /// Stopping the queues.
    Stop,
    /// Reading a configuration space that has changed.
    Config,
}

struct Due {
    request: FrontendReq,
    answer: Answer,
    purpose: Purpose,
    patience: Duration,
    deadline: Instant,
}

/// A connection to a backend.
pub(crate) struct Exchange {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    due: VecDeque<Due>,
    /// Acknowledgements were agreed on.
    acks: bool,
    tried: Instant,
}

impl Exchange {
    pub fn new(socket: OwnedFd, now: Instant) -> Self {
        let (inbox, outbox, due) = (Inbox::new(), Outbox::default(), VecDeque::new());
        Self { socket, inbox, outbox, due, acks: false, tried: now }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// From now on the backend acknowledges what it is told.
    pub fn agree_on_acks(&mut self) {
        self.acks = true;
    }

    pub fn has_acks(&self) -> bool {
        self.acks
    }

    /// Sends a message, now or as soon as there is room.
    pub fn ask(&mut self, message: Message, purpose: Purpose, patience: Duration, now: Instant) {
        let Message { request, body, fds, answer } = message;
        let acknowledged = answer == Answer::Ack && self.acks;
        let flags = if acknowledged { 1 | NEED_REPLY } else { 1 };
        let header = Header { request: request.into(), flags, size: body.len() as u32 };
        self.outbox.push([&header.encode()[..], &body].concat(), fds);
        if acknowledged || answer != Answer::Ack {
            let deadline = now + patience;
            self.due.push_back(Due { request, answer, purpose, patience, deadline });
        }
    }

    /// Whether everything asked for this purpose is answered.
    pub fn is_done(&self, purpose: Purpose) -> bool {
        self.due.iter().all(|due| due.purpose != purpose)
    }

    /// When to call again at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let answer = self.due.iter().map(|due| due.deadline).min();
        let retry = (!self.outbox.is_empty()).then_some(self.tried + RETRY);
        answer.into_iter().chain(retry).min()
    }

    /// Sends what there is room for.
    pub fn flush(&mut self, now: Instant) -> Result<(), Fault> {
        self.tried = now;
        self.outbox.flush(self.socket.as_fd())
    }

    /// The next answer, if it is there.
    pub fn next(&mut self, now: Instant) -> Result<Option<(FrontendReq, Reply)>, Fault> {
        self.flush(now)?;
        loop {
            if let Some(answered) = self.take()? {
                return Ok(Some(answered));
            }
            let fds = self.due.iter().filter(|due| due.answer == Answer::Inflight).count();
            if !self.inbox.read(self.socket.as_fd(), fds.min(1))? {
                return self.check_deadlines(now).map(|()| None);
            }
        }
    }

    fn take(&mut self) -> Result<Option<(FrontendReq, Reply)>, Fault> {
        let Some(parcel) = self.inbox.take(true)? else { return Ok(None) };
        let number = parcel.header.request;
        let due = self.due.pop_front().filter(|due| u32::from(due.request) == number);
        let due = due.ok_or(Fault::Unsolicited { request: number })?;
        let fd = if due.answer == Answer::Inflight { self.inbox.take_fd() } else { None };
        let reply = decode(due.request, due.answer, &parcel.body, fd)?;
        Ok(Some((due.request, reply)))
    }

    fn check_deadlines(&mut self, now: Instant) -> Result<(), Fault> {
        for due in self.due.iter_mut().filter(|due| due.deadline <= now) {
            if now < due.deadline + PUNCTUAL {
                return Err(Fault::Silent {
                    request: due.request,
                    millis: due.patience.as_millis(),
                });
            }
            due.deadline = now + GRACE;
        }
        Ok(())
    }
}
