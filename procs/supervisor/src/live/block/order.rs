//! Orders that block-layers have not answered, and what is done with the answers.

use std::os::fd::BorrowedFd;

use bulkhead_protocol::block::{BlockAnswer, BlockCommand, BlockOrder};
use bulkhead_protocol::block_control::{BlockResponse, JobAction};
use bulkhead_protocol::filters::Limits;

use crate::live::Instance;
use crate::live::token::PostIndex;
use crate::refusal::refuse;

/// What an order was given for.
#[derive(Debug)]
pub enum Purpose {
    /// A client waits to hear that it is done.
    Client {
        /// Its call.
        call: u64,
        /// The disk, as it was named.
        disk: String,
        /// What is then so, also for a successor.
        then: Then,
    },
    /// A client waits to hear that something is done about a job.
    Action {
        /// Its call.
        call: u64,
        /// The job.
        job: String,
        /// What.
        action: JobAction,
    },
    /// A part of the answer to a query.
    Query(u64),
    /// The start of a job, for a client.
    Start {
        /// Its call.
        call: u64,
        /// The job.
        job: String,
    },
    /// A larger size, which the disk knows of.
    Resize,
    /// An internal snapshot that the disk goes back to.
    GoBack {
        /// The client's call.
        call: u64,
        /// The snapshot.
        snapshot: String,
        /// It was carried out: a successor has nothing to do.
        done: bool,
    },
    /// A member of a transaction.
    Snapshot(u64),
}

/// What holds after an order was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Nothing that the supervisor has to know.
    Nothing,
    /// The disk has these limits.
    Limits(Limits),
    /// The block-layer keeps a bitmap in memory.
    Bitmap(String),
    /// It keeps it no more.
    NoBitmap(String),
}

/// An order that is not answered.
#[derive(Debug)]
pub struct Waiting {
    pub(super) number: u64,
    pub(super) disk: usize,
    pub(super) purpose: Purpose,
}

/// The call of a client that has gone. Control's calls begin at 1.
pub(super) const NOBODY: u64 = 0;

impl Waiting {
    /// Whoever waits for it has gone.
    pub(super) fn forget_caller(&mut self) {
        match &mut self.purpose {
            Purpose::Client { call, .. }
            | Purpose::Action { call, .. }
            | Purpose::GoBack { call, .. }
            | Purpose::Start { call, .. } => *call = NOBODY,
            Purpose::Query(_) | Purpose::Snapshot(_) | Purpose::Resize => {}
        }
    }
}

impl Instance {
    /// Gives an order to the block-layer of a disk; its number.
    pub(super) fn order_block(
        &mut self,
        disk: usize,
        order: BlockOrder,
        fds: &[BorrowedFd<'_>],
        purpose: Purpose,
    ) -> u64 {
        let number = self.number();
        self.orders.push(Waiting { number, disk, purpose });
        let Some(server) = self.disks.get(disk).map(|disk| disk.server) else {
            return number;
        };
        let command = BlockCommand::Order { call: number, order };
        // A message that cannot be made is nobody's death: there is none to wait for.
        if let Err(error) = self.tell_server(server, command, fds)
            && error.is_of_the_message()
        {
            let reason = format!("it cannot be asked of its block layer: {error}");
            self.settle(disk, number, BlockAnswer::Refused(reason));
        }
        number
    }

    /// A block-layer answers an order.
    pub(in crate::live) fn on_block_answer(
        &mut self,
        disk: usize,
        post: PostIndex,
        number: u64,
        answer: BlockAnswer,
    ) {
        if !self.settle(disk, number, answer) {
            self.condemn(post, "it answers what was never asked".into());
        }
    }

    /// An order is answered; `false`: there is none.
    fn settle(&mut self, disk: usize, number: u64, answer: BlockAnswer) -> bool {
        let is_it = |order: &Waiting| (order.number, order.disk) == (number, disk);
        let Some(at) = self.orders.iter().position(is_it) else {
            return false;
        };
        let Waiting { purpose, .. } = self.orders.remove(at);
        self.settle_order(disk, purpose, answer);
        true
    }

    fn settle_order(&mut self, disk: usize, purpose: Purpose, answer: BlockAnswer) {
        match (purpose, answer) {
            (Purpose::Query(query), BlockAnswer::Disk(report)) => {
                self.query_answered(query, disk, Some(*report));
            }
            (Purpose::Query(query), _) => self.query_answered(query, disk, None),
            (Purpose::Start { call, job }, BlockAnswer::Refused(reason)) => {
                self.job_refused(call, disk, &job, &reason);
            }
            (Purpose::Start { call, job }, _) => self.job_runs(call, disk, job),
            (Purpose::Snapshot(snapshot), BlockAnswer::Refused(reason)) => {
                self.member_refused(snapshot, disk, &reason);
            }
            (Purpose::Resize, BlockAnswer::Refused(reason)) => {
                self.resize_answered(disk, Err(reason));
            }
            (Purpose::Resize, _) => self.resize_answered(disk, Ok(())),
            (Purpose::GoBack { call, .. }, answer) => self.has_gone_back(call, disk, answer),
            // It was settled with the record.
            (Purpose::Snapshot(_), _) => {}
            (Purpose::Client { call, disk, .. }, BlockAnswer::Refused(reason)) => {
                let refusal = refuse("DISK", disk, reason, "see 'bulkhead block query'");
                self.answer_block(call, BlockResponse::Refused(refusal));
            }
            (Purpose::Client { call, then, .. }, _) => {
                self.note(disk, then);
                self.answer_block(call, BlockResponse::Done);
            }
            (Purpose::Action { call, job, .. }, BlockAnswer::Refused(reason)) => {
                let refusal = refuse("JOB", job, reason, "see 'bulkhead block jobs'");
                self.answer_block(call, BlockResponse::Refused(refusal));
            }
            (Purpose::Action { call, job, action }, _) => {
                self.note_action(disk, &job, action);
                self.answer_block(call, BlockResponse::Done);
            }
        }
    }

    fn note(&mut self, disk: usize, then: Then) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        match then {
            Then::Nothing => {}
            Then::Limits(limits) => here.limits = limits,
            Then::Bitmap(bitmap) => here.bitmaps.push(bitmap),
            Then::NoBitmap(bitmap) => here.bitmaps.retain(|other| *other != bitmap),
        }
    }

    /// The block-layer of a disk was reaped with these unanswered.
    pub(super) fn orders_lost(&mut self, disk: usize) {
        let all = std::mem::take(&mut self.orders);
        let is_lost = |order: &Waiting| order.disk == disk && !order.is_for_a_successor();
        let (lost, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_lost);
        self.orders = rest;
        // What became of a size, a successor will say.
        let lost = lost.into_iter().filter(|order| !matches!(order.purpose, Purpose::Resize));
        for Waiting { purpose, .. } in lost {
            let answer = match purpose {
                Purpose::GoBack { .. } => BlockAnswer::Done,
                _ => BlockAnswer::Refused("the block layer died before it was done".to_owned()),
            };
            self.settle_order(disk, purpose, answer);
        }
    }

    /// What an order was given for to which a change belongs.
    pub(super) fn purpose_of(&mut self, disk: usize, number: u64) -> Option<&mut Purpose> {
        let mut orders = self.orders.iter_mut();
        let order = orders.find(|order| (order.number, order.disk) == (number, disk));
        order.map(|order| &mut order.purpose)
    }
}
