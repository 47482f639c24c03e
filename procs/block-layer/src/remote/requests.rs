//! What a server is asked: waiting for a line, sent on one, or over.
//!
//! Cookies are numbers that never come again, in the order in which requests were made: an answer to
//! something that is over finds nobody, and what is sent again goes in its first order.
//!
//! A request may be what kills its lines: a server that dies of it, or cannot stand it. The oldest that is not
//! answered when a line is lost is charged with that. After the second time, what was under way together is sent
//! one by one, so that the innocent get their answers; after the fifth it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Poll, Waker};

use bulkhead_nbd::answer::{Answer, Asked};
use bulkhead_nbd::reply::Extent;

use crate::memory::Memory;
use crate::outcome::Failure;

/// What is asked, and the memory that it is about. A request owns it until it is over.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) asked: Asked,
    /// Flags of its command.
    pub(super) flags: u16,
    /// What is written, or where what is read goes.
    pub(super) memory: Option<Memory>,
}

/// Lines that a request may cost as the oldest on them before all that is sent with it goes one by one.
const SUSPICIOUS: u32 = 2;

/// The same before it fails.
const MOST_LOSSES: u32 = 5;

/// How a request ended.
pub(super) type Ended = Result<Vec<Extent>, Failure>;

#[derive(Debug)]
enum State {
    Waiting,
    Sent { line: u64, answer: Answer },
    Over(Ended),
}

#[derive(Debug)]
struct Request {
    question: Question,
    state: State,
    /// Lines that were lost while it was the oldest on them.
    losses: u32,
    /// It is sent by itself.
    suspect: bool,
    waker: Option<Waker>,
}

impl Request {
    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Requests {
    all: BTreeMap<u64, Request>,
    waiting: BTreeSet<u64>,
    made: u64,
}

impl Requests {
    pub(super) fn insert(&mut self, question: Question) -> u64 {
        self.made += 1;
        let (state, waker) = (State::Waiting, None);
        let request = Request { question, state, losses: 0, suspect: false, waker };
        self.all.insert(self.made, request);
        self.waiting.insert(self.made);
        self.made
    }

    /// The oldest that waits.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.waiting.first().copied()
    }

    /// It goes out on a line.
    pub(super) fn send(&mut self, cookie: u64, line: u64) -> Option<&Question> {
        self.waiting.remove(&cookie);
        let request = self.all.get_mut(&cookie)?;
        request.state = State::Sent { line, answer: Answer::new(request.question.asked) };
        Some(&request.question)
    }

    /// The answer to what was sent on this line, and where its data goes.
    pub(super) fn answer(
        &mut self,
        cookie: u64,
        on: u64,
    ) -> Option<(&mut Answer, Option<&Memory>)> {
        match self.all.get_mut(&cookie)? {
            Request { question, state: State::Sent { line, answer }, .. } if *line == on => {
                Some((answer, question.memory.as_ref()))
            }
            _ => None,
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, cookie: u64, ended: Ended) {
        self.waiting.remove(&cookie);
        if let Some(request) = self.all.get_mut(&cookie) {
            request.state = State::Over(ended);
            // Nothing may hold the memory when its owner goes on.
            request.question.memory = None;
            if let Some(waker) = request.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether it is to be sent by itself.
    pub(super) fn is_suspect(&self, cookie: u64) -> bool {
        self.all.get(&cookie).is_some_and(|request| request.suspect)
    }

    /// What was sent on this line waits again, but for what has cost too many.
    pub(super) fn lose(&mut self, lost: u64) {
        let mut charged = None;
        for (cookie, request) in &mut self.all {
            if matches!(request.state, State::Sent { line, .. } if line == lost) {
                request.state = State::Waiting;
                self.waiting.insert(*cookie);
                let (_, losses) = *charged.get_or_insert_with(|| {
                    request.losses += 1;
                    (*cookie, request.losses)
                });
                request.suspect |= losses >= SUSPICIOUS;
            }
        }
        if let Some((cookie, MOST_LOSSES..)) = charged {
            self.end(cookie, Err(Failure::IO));
        }
    }

    /// All that wait fail.
    pub(super) fn fail_waiting(&mut self, failure: Failure) {
        for cookie in std::mem::take(&mut self.waiting) {
            self.end(cookie, Err(failure));
        }
    }

    /// All that are not over fail.
    pub(super) fn fail_all(&mut self, failure: Failure) {
        let left = self.all.iter().filter(|(_, request)| !request.is_over());
        let left: Vec<u64> = left.map(|(cookie, _)| *cookie).collect();
        for cookie in left {
            self.end(cookie, Err(failure));
        }
    }

    /// Whether nothing is asked that is not over.
    pub(super) fn is_idle(&self) -> bool {
        self.all.values().all(Request::is_over)
    }

    pub(super) fn is_over(&self, cookie: u64) -> bool {
        self.all.get(&cookie).is_none_or(Request::is_over)
    }

    pub(super) fn poll(&mut self, cookie: u64, waker: &Waker) -> Poll<Ended> {
        let Some(request) = self.all.get_mut(&cookie) else {
            return Poll::Ready(Err(Failure::IO));
        };
        if !matches!(request.state, State::Over(_)) {
            request.waker = Some(waker.clone());
            return Poll::Pending;
        }
        match self.all.remove(&cookie) {
            Some(Request { state: State::Over(ended), .. }) => Poll::Ready(ended),
            _ => Poll::Ready(Err(Failure::IO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_nbd::request::Command;

    use super::*;

    fn three() -> Requests {
        let mut requests = Requests::default();
        for offset in 0..3 {
            let asked = Asked { command: Command::Write, offset, len: 1 };
            requests.insert(Question { asked, flags: 0, memory: None });
        }
        requests
    }

    fn send_all(requests: &mut Requests, line: u64) {
        while let Some(cookie) = requests.first_waiting() {
            requests.send(cookie, line);
        }
    }

    #[test]
    fn the_innocent_are_told_from_the_culprit_by_being_sent_alone() {
        let mut requests = three();
        // The server dies of the second, before it has answered the first.
        for line in 0..2 {
            assert!(!requests.is_suspect(1) && !requests.is_suspect(3));
            send_all(&mut requests, line);
            requests.lose(line);
        }
        assert!((1..=3).all(|cookie| requests.is_suspect(cookie)));
        requests.send(1, 2);
        requests.end(1, Ok(Vec::new()));
        for line in 2..7 {
            assert_eq!(requests.first_waiting(), Some(2), "{line}");
            requests.send(2, line);
            requests.lose(line);
        }
        let ended = |requests: &mut Requests, cookie| requests.poll(cookie, Waker::noop());
        assert_eq!(ended(&mut requests, 2), Poll::Ready(Err(Failure::IO)));
        assert_eq!(requests.first_waiting(), Some(3));
        assert_eq!(ended(&mut requests, 1), Poll::Ready(Ok(Vec::new())));
        assert!(!requests.is_idle());
        requests.fail_all(Failure::NO_SPACE);
        assert!(requests.is_idle());
        assert_eq!(ended(&mut requests, 3), Poll::Ready(Err(Failure::NO_SPACE)));
    }
}
