//! A disk goes back to an internal snapshot of its top layer.
//!
//! The order is a part of the record ([`Purpose::GoBack`]) until its block-layer says that it was carried out, with
//! the disk still drained: a successor is given it with its plan, and carries it out before it serves anything.
//!
//! A machine must be paused, as for QEMU's `loadvm`: what its guest has in memory is of the disk as it was, and is
//! good for a reset only. Who connects to a storage instance is not asked.

use bulkhead_protocol::block::{BlockAnswer, BlockCommand, BlockOrder, LayerNumber, Unfinished};
use bulkhead_protocol::block_control::{BlockResponse, InternalAction};
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::session::Refusal;

use super::order::{Purpose, Waiting};
use crate::live::Instance;
use crate::live::machine::Power;
use crate::live::token::PostIndex;
use crate::refusal::refuse;

/// As users type it.
const OPTION: &str = "internal-snapshot apply";

impl Waiting {
    /// Whether it is given to a successor as well.
    pub(super) fn is_for_a_successor(&self) -> bool {
        matches!(self.purpose, Purpose::GoBack { done: false, .. })
    }
}

impl Instance {
    /// Gives the order to the disk's block-layer.
    pub(super) fn go_back(&mut self, call: u64, id: &str, snapshot: String) -> Result<(), Refusal> {
        let disk = self.serving_disk(OPTION, id)?;
        self.writable_image(OPTION, disk)?;
        self.refuse_busy(OPTION, disk)?;
        let jobs = self.disks.get(disk).map_or(&[][..], |disk| &disk.jobs);
        if let Some(job) = jobs.first() {
            let remedy = "wait until it has ended, or cancel it";
            return Err(refuse(OPTION, job.name(), "a job copies the disk as it is", remedy));
        }
        if self.planned(disk).is_some_and(|disk| disk.reference.is_some()) {
            let (reason, remedy) =
                ("it is compared with another file", "serve it without that one");
            return Err(refuse(OPTION, id, reason, remedy));
        }
        if matches!(self.machine_power(), Some(power) if !is_at_rest(power)) {
            let (reason, remedy) = ("its guest uses the disk", "pause it, and reset it afterwards");
            return Err(refuse(OPTION, id, reason, remedy));
        }
        let action = InternalAction::Apply;
        let order = BlockOrder::InternalSnapshot { snapshot: snapshot.clone(), action, time: 0 };
        self.order_block(disk, order, &[], Purpose::GoBack { call, snapshot, done: false });
        Ok(())
    }

    /// Orders that a successor of the disk's block-layer has to carry out first.
    pub(in crate::live) fn unfinished(&self, disk: usize) -> Vec<Unfinished> {
        let orders = self.orders.iter().filter(|order| order.disk == disk);
        let unfinished = orders.filter_map(|order| match &order.purpose {
            Purpose::GoBack { snapshot, done: false, .. } => {
                Some(Unfinished { call: order.number, snapshot: snapshot.clone() })
            }
            _ => None,
        });
        unfinished.collect()
    }

    /// Its block-layer has carried it out, and serves nobody before it is told that this was written down.
    pub(super) fn goes_back(
        &mut self,
        disk: usize,
        post: PostIndex,
        call: u64,
        change: u64,
        chain: &[LayerNumber],
    ) {
        let own = self.image(disk).map(|image| image.chain.layers()).unwrap_or_default();
        if !own.iter().map(|layer| &layer.number).eq(chain) {
            return self.condemn(post, "it goes over to another chain for no reason".into());
        }
        let id = self.disk_name(disk);
        if let Some(Purpose::GoBack { snapshot, done, .. }) = self.purpose_of(disk, call)
            && !std::mem::replace(done, true)
        {
            let snapshot = snapshot.clone();
            self.tell(EventKind::SnapshotApplied { id, snapshot });
        }
        self.tell_disk(disk, BlockCommand::Switched { change });
    }

    /// The order is answered.
    pub(super) fn has_gone_back(&mut self, call: u64, disk: usize, answer: BlockAnswer) {
        let response = match answer {
            BlockAnswer::Refused(reason) => {
                let remedy = "see 'bulkhead block query'";
                BlockResponse::Refused(refuse(OPTION, self.disk_name(disk), reason, remedy))
            }
            _ => BlockResponse::Done,
        };
        self.answer_block(call, response);
    }

    /// Whether a disk is about to become what it was.
    pub(super) fn is_going_back(&self, disk: usize) -> bool {
        let is_it =
            |order: &Waiting| order.disk == disk && matches!(order.purpose, Purpose::GoBack { .. });
        self.orders.iter().any(is_it)
    }

    /// Whether one is: its guest must rest until it has.
    pub(in crate::live) fn goes_back_somewhere(&self) -> bool {
        (0..self.disks.len()).any(|disk| self.is_going_back(disk))
    }
}

fn is_at_rest(power: Power) -> bool {
    matches!(power, Power::Paused | Power::Crashed)
}
