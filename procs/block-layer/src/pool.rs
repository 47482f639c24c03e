//! The workers: threads that do one blocking call at a time.
//!
//! Lanes and the graph hand them what would block. A worker knows the image and the memory, no node
//! and no ring; it answers by posting to whoever asked. All are made before the seal.
//!
//! Why not Linux AIO, which keeps many direct transfers in flight from one thread for two thirds of the
//! CPU time: the kernel takes a dying process's contexts apart by two RCU grace periods, so that a kill
//! was reaped after 28 ms instead of 1 ms. Every restart would wait that long for its fence.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::executor::Mail;
use crate::graph::CallId;
use crate::image::{Call, Image};
use crate::lane::ToLane;
use crate::mailbox::Mailbox;
use crate::outcome::{Failure, Outcome};
use crate::request::Request;

/// A worker's stack: system calls with a few words of arguments.
const STACK: usize = 64 * 1024;

/// Jobs for which the queue has room from the start.
const ROOM: usize = 64;

/// One call, or a few that belong together.
#[derive(Debug)]
pub struct Job {
    /// On which image.
    pub image: Arc<Image>,
    /// What to do.
    pub call: Call,
    /// Bytes of it that are done.
    pub done: u32,
    /// Set once the requester is dead: a job that has not begun does not begin.
    pub revoked: Arc<AtomicBool>,
    /// Who is told.
    pub answer: Answer,
}

/// Who is told how a job ended.
#[derive(Debug)]
pub enum Answer {
    /// The lane that took the request.
    Lane {
        /// Its mailbox.
        lane: Arc<Mailbox<ToLane>>,
        /// The request, as the lane took it.
        request: Request,
    },
    /// The executor, for a request in the graph.
    Executor {
        /// Its mailbox.
        executor: Arc<Mailbox<Mail>>,
        /// The call's number there.
        call: CallId,
    },
}

impl Answer {
    fn send(self, outcome: Outcome) {
        match self {
            Self::Lane { lane, request } => lane.post(ToLane::worked(request, outcome)),
            Self::Executor { executor, call } => executor.post(Mail::Worked { call, outcome }),
        }
    }
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Job>,
    idle: usize,
    closing: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle by which jobs are handed over. The threads end with it.
#[derive(Debug)]
pub struct Pool(Arc<Shared>);

impl Pool {
    /// Starts `workers` threads, each of which passes `begun` once it has begun.
    pub fn start(workers: usize, begun: &Arc<Barrier>) -> io::Result<Self> {
        let state = State { queue: VecDeque::with_capacity(ROOM), idle: 0, closing: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), more: Condvar::new() });
        for number in 0..workers {
            let (shared, begun) = (Arc::clone(&shared), Arc::clone(begun));
            thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK).spawn(
                move || {
                    begun.wait();
                    work(&shared);
                },
            )?;
        }
        Ok(Self(shared))
    }

    /// Hands jobs over, and leaves `jobs` empty: one look at the lock for a whole batch.
    pub fn hand(&self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        let woken = jobs.len().min(state.idle);
        state.queue.extend(jobs.drain(..));
        drop(state);
        for _ in 0..woken {
            self.0.more.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.more.notify_all();
    }
}

fn work(shared: &Shared) {
    while let Some(job) = next(shared) {
        let Job { image, call, done, revoked, answer } = job;
        let outcome = if revoked.load(std::sync::atomic::Ordering::Acquire) {
            Err(Failure::DISCARDED)
        } else {
            image.perform_call(&call, done, &revoked)
        };
        // The answer is the last that is seen of a job: whoever drains counts answers, and afterwards
        // nothing may hold the arena or the image.
        drop((image, call, revoked));
        answer.send(outcome);
    }
}

fn next(shared: &Shared) -> Option<Job> {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.queue.pop_front() {
            return Some(job);
        }
        if state.closing {
            return None;
        }
        state.idle += 1;
        state = shared.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
    }
}
