//! Direct transfers that a lane has the kernel make, and what becomes of them.
//!
//! They take the place of workers, a hand-over and a thread less for each request. What the kernel does not
//! take, or does by half, workers do.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use bulkhead_sys::aio::Queue;

use crate::image::Call;
use crate::outcome::{Failure, Outcome};
use crate::pool::Job;

/// Transfers in flight. More go to workers.
const DEPTH: u16 = 128;

/// See the module.
#[derive(Debug)]
pub struct Direct(Queue<Job>);

/// What became of one.
#[derive(Debug)]
pub(super) enum Over {
    /// It is done, or failed.
    Done(Job, Outcome),
    /// The rest is a worker's.
    Rest(Job),
}

impl Direct {
    /// Makes the kernel's part, before the seal. The host has a bound for all of them together.
    pub fn new() -> io::Result<Self> {
        Queue::new(DEPTH).map(Self)
    }

    /// Takes a job that is one transfer; any other comes back.
    pub(super) fn add(&mut self, job: Job) -> Option<Job> {
        let Call::Request { action, arena } = &job.call else {
            return Some(job);
        };
        let transfer = match job.image.by_itself(*action, arena) {
            Some(transfer) if job.done == 0 && self.0.has_room() => transfer,
            _ => return Some(job),
        };
        // The job has the image, and so the file stays open.
        let image = std::sync::Arc::clone(&job.image);
        self.0.add(&*image, transfer, job).err()
    }

    /// Hands what was added to the kernel. `refused` is for workers.
    pub(super) fn submit(&mut self, refused: &mut Vec<Job>) {
        self.0.submit(|job| refused.push(job));
    }

    /// What is over.
    pub(super) fn collect(&mut self, into: &mut Vec<Over>) {
        self.0.collect(|job, result| into.push(judge(job, result)));
    }

    /// Whether there is something to wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.0.is_busy()
    }

    /// Where that is heard of.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.0.bell().as_fd()
    }

    /// After the wait.
    pub(super) fn heard(&self) {
        self.0.bell().clear();
    }
}

fn judge(mut job: Job, result: io::Result<usize>) -> Over {
    let wanted = match &job.call {
        Call::Request { action, .. } => action.bytes(),
        _ => 0,
    };
    match result {
        Ok(count) if count as u64 >= wanted => Over::Done(job, Ok(())),
        // A file that ends early was cut by somebody.
        Ok(0) => Over::Done(job, Err(Failure::IO)),
        Ok(count) => {
            job.done = count as u32;
            Over::Rest(job)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Over::Rest(job),
        Err(error) => Over::Done(job, Err(error.into())),
    }
}
