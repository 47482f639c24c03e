//! Requests of a lane that the kernel has: asynchronous transfers from submission to landing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bulkhead_ring::Arena;

use super::thread::Lane;
use crate::image::{Image, Landing, landing};
use crate::pool::{Answer, Job};
use crate::request::Request;

/// What a transfer in flight owns. The arena stays mapped until it has landed.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) image: Arc<Image>,
    pub(super) request: Request,
    pub(super) arena: Arena,
    pub(super) revoked: Arc<AtomicBool>,
}

impl Transfer {
    /// The same as work for a worker, of which `done` bytes are done.
    pub(super) fn into_job(self, done: u32, answer: Answer) -> Job {
        let Self { image, request, arena, revoked } = self;
        Job { image, action: request.action, done, arena, revoked, answer }
    }
}

impl Lane {
    /// Hands the kernel what the batch prepared.
    pub(super) fn submit_transfers(&mut self) {
        if let Some(aio) = &mut self.aio {
            let landed = &mut self.landed;
            aio.submit(|transfer, error| landed.push((transfer, Err(error))));
        }
        self.settle_landed();
    }

    /// Takes what has landed; how many there were.
    pub(super) fn reap_transfers(&mut self) -> usize {
        let Some(aio) = &mut self.aio else {
            return 0;
        };
        if aio.outstanding() == 0 {
            return 0;
        }
        let landed = &mut self.landed;
        // An error here is a signal in between; the next look finds the same.
        let count = aio.reap(|transfer, result| landed.push((transfer, result))).unwrap_or(0);
        self.settle_landed();
        count
    }

    fn settle_landed(&mut self) {
        let mut landed = std::mem::take(&mut self.landed);
        for (transfer, result) in landed.drain(..) {
            self.settle(transfer, result);
        }
        self.landed = landed;
    }

    fn settle(&mut self, transfer: Transfer, result: io::Result<usize>) {
        let Request { tag, action } = transfer.request;
        match landing(action, result) {
            Landing::Done(outcome) => {
                drop(transfer);
                self.returned(tag, outcome);
            }
            Landing::Rest(done) => {
                let answer = Answer::Lane { lane: Arc::clone(&self.mailbox), tag };
                self.pool.hand(transfer.into_job(done, answer));
            }
        }
    }
}
