//! What a server is asked: waiting for a line, sent on one, or over.
//!
//! Cookies are numbers that never come again, in the order in which requests were made: an answer to
//! something that is over finds nobody, and what is sent again goes in its first order.

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
    waker: Option<Waker>,
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
        self.all.insert(self.made, Request { question, state: State::Waiting, waker: None });
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

    /// What was sent on this line waits again.
    pub(super) fn lose(&mut self, lost: u64) {
        for (cookie, request) in &mut self.all {
            if matches!(request.state, State::Sent { line, .. } if line == lost) {
                request.state = State::Waiting;
                self.waiting.insert(*cookie);
            }
        }
    }

    /// All that wait fail.
    pub(super) fn fail_waiting(&mut self, failure: Failure) {
        for cookie in std::mem::take(&mut self.waiting) {
            self.end(cookie, Err(failure));
        }
    }

    pub(super) fn is_over(&self, cookie: u64) -> bool {
        !matches!(
            self.all.get(&cookie),
            Some(Request { state: State::Waiting | State::Sent { .. }, .. })
        )
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
