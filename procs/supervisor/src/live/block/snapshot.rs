//! External snapshots: a new top layer on each of several disks, on all of them or on none.
//!
//! ```text
//!           every member says Switching                 every member is told Switched
//!  Asked ─────────────────────────────▶ recorded, all ─────────────────────────────▶ over
//!    │ a refusal, a death, the deadline
//!    └────▶ abandoned: who was ready is told so, who becomes ready later as well; files removed
//! ```
//!
//! The record is one step of one thread: no death of a block-layer finds half of it.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bulkhead_protocol::block::{BlockCommand, BlockOrder, LayerFormat, LayerNumber};
use bulkhead_protocol::block_control::{BlockResponse, OverlaySpec};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::MOST_LAYERS;

use super::files::Target;
use super::order::{NOBODY, Purpose};
use crate::images::chain::{Layer, Readers};
use crate::live::{Due, Instance};
use crate::refusal::refuse;

/// How long the members have to be drained. Clients wait somewhat longer for their answer.
const DEADLINE: Duration = Duration::from_secs(8);

/// A transaction.
#[derive(Debug)]
pub struct Snapshot {
    number: u64,
    call: u64,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    disk: usize,
    target: Target,
    /// The change for which it waits.
    ready: Option<u64>,
}

impl Snapshot {
    /// Whoever waits for it has gone.
    pub(super) fn forget_caller(&mut self) {
        self.call = NOBODY;
    }
}

impl Instance {
    /// Makes the files of all members and asks their block-layers.
    pub(super) fn begin_snapshot(
        &mut self,
        call: u64,
        overlays: Vec<OverlaySpec>,
    ) -> Result<(), Refusal> {
        let mut members: Vec<Member> = Vec::new();
        for overlay in &overlays {
            let option = format!("snapshot --disk {}", overlay.disk);
            let disk = self.overlaid(&option, overlay)?;
            if members.iter().any(|member| member.disk == disk) {
                let (reason, remedy) = ("the disk is given twice", "give each disk once");
                return Err(refuse(option, &overlay.disk, reason, remedy));
            }
            let target = self.take_target(&option, disk, &overlay.file, 0)?;
            let order = BlockOrder::Snapshot(target.plan.clone());
            self.refuse_full(&option, disk, &BlockCommand::Order { call: NOBODY, order })?;
            members.push(Member { disk, target, ready: None });
        }
        let number = self.number();
        for member in &members {
            let fds: Vec<BorrowedFd<'_>> = member.target.layer.written_fds().collect();
            let order = BlockOrder::Snapshot(member.target.plan.clone());
            self.order_block(member.disk, order, &fds, Purpose::Snapshot(number));
        }
        self.snapshots.push(Snapshot { number, call, members });
        self.timers.set(Instant::now() + DEADLINE, Due::Snapshot(number));
        Ok(())
    }

    fn overlaid(&self, option: &str, overlay: &OverlaySpec) -> Result<usize, Refusal> {
        let disk = self.serving_disk(option, &overlay.disk)?;
        self.writable_image(option, disk)?;
        if overlay.file.format != LayerFormat::Qcow2 {
            let reason = "a raw file has nothing below it";
            return Err(refuse(option, "format=raw", reason, "leave the format out"));
        }
        if overlay.file.server.is_some() {
            let remedy = "name a file by path=";
            return Err(refuse(option, overlay.file.path.display(), "it is no file", remedy));
        }
        self.refuse_busy(option, disk)?;
        if self.image(disk).is_some_and(|image| image.chain.layers().len() >= MOST_LAYERS) {
            let reason = format!("the disk has {MOST_LAYERS} layers already");
            return Err(refuse(option, &overlay.disk, reason, "commit or stream it first"));
        }
        Ok(disk)
    }

    /// Whether a transaction waits for this disk.
    pub(super) fn is_being_snapshotted(&self, disk: usize) -> bool {
        self.snapshots.iter().any(|other| other.members.iter().any(|member| member.disk == disk))
    }

    /// A member is drained. `chain` is what its block-layer means to go over to.
    pub(super) fn member_ready(
        &mut self,
        snapshot: u64,
        disk: usize,
        change: u64,
        chain: &[LayerNumber],
    ) {
        let Some(here) = self.snapshots.iter_mut().find(|other| other.number == snapshot) else {
            return self.abandon(disk, change, "the transaction is over");
        };
        let Some(member) = here.members.iter_mut().find(|member| member.disk == disk) else {
            return;
        };
        member.ready = Some(change);
        let new = member.target.layer.number;
        let expected = |old: &[LayerNumber]| chain.split_first() == Some((&new, old));
        let old = self.image(disk).map(|image| image.chain.named()).unwrap_or_default();
        let old: Vec<LayerNumber> = old.iter().map(|layer| layer.layer).collect();
        if !expected(&old) {
            return self.fail_snapshot(snapshot, disk, "its block layer wants another chain");
        }
        let all = |other: &Snapshot| other.members.iter().all(|member| member.ready.is_some());
        if self.snapshots.iter().any(|other| other.number == snapshot && all(other)) {
            self.record_snapshot(snapshot);
        }
    }

    /// Everybody is ready: the record, all of it, and then the word.
    fn record_snapshot(&mut self, number: u64) {
        let Some(at) = self.snapshots.iter().position(|other| other.number == number) else {
            return;
        };
        let members = self.snapshots.get(at).map_or(&[][..], |snapshot| &snapshot.members);
        let top = |disk| self.image(disk).and_then(|image| image.chain.top());
        let readers = members.iter().map(|member| {
            let readers = top(member.disk).map(Layer::readers).transpose();
            readers.map_err(|error| (member.disk, error))
        });
        let readers: Vec<Option<Readers>> = match readers.collect() {
            Ok(readers) => readers,
            Err((disk, error)) => {
                let reason = format!("its file cannot be opened for reading: {error}");
                return self.fail_snapshot(number, disk, &reason);
            }
        };
        let Snapshot { call, members, .. } = self.snapshots.remove(at);
        for (Member { disk, target, ready }, readers) in members.into_iter().zip(readers) {
            let Target { layer, fresh, .. } = target;
            self.release_top(disk, readers);
            self.record_top(disk, layer);
            if let Some(fresh) = fresh {
                fresh.keep();
            }
            if let Some(change) = ready {
                self.tell_disk(disk, BlockCommand::Switched { change });
            }
        }
        self.answer_block(call, BlockResponse::Done);
    }

    /// What was the top layer is only read from now on. Nothing writes it: its disk is drained.
    fn release_top(&mut self, disk: usize, readers: Option<Readers>) {
        let Some(image) = self.image_mut(disk) else {
            return;
        };
        let number = image.chain.top().map(|top| top.number);
        if let (Some(number), Some(readers)) = (number, readers)
            && let Some(top) = image.chain.layer_mut(number)
        {
            top.only_read(readers);
        }
    }

    /// A member cannot be had, or is dead.
    pub(super) fn member_refused(&mut self, snapshot: u64, disk: usize, reason: &str) {
        self.fail_snapshot(snapshot, disk, reason);
    }

    /// The members had their time.
    pub(in crate::live) fn snapshot_is_due(&mut self, number: u64) {
        let snapshot = self.snapshots.iter().find(|other| other.number == number);
        let late = snapshot.and_then(|s| s.members.iter().find(|member| member.ready.is_none()));
        if let Some(disk) = late.map(|member| member.disk) {
            self.fail_snapshot(number, disk, "its requests do not end");
        }
    }

    fn fail_snapshot(&mut self, number: u64, disk: usize, reason: &str) {
        let Some(at) = self.snapshots.iter().position(|other| other.number == number) else {
            return;
        };
        let Snapshot { call, members, .. } = self.snapshots.remove(at);
        for member in &members {
            if let Some(change) = member.ready {
                self.abandon(member.disk, change, "another disk of the transaction failed");
            }
        }
        let id = self.planned(disk).map(|disk| disk.id.clone()).unwrap_or_default();
        let remedy = "no disk was changed; see 'bulkhead events', and try again";
        let refusal = refuse("snapshot --disk", id, reason, remedy);
        self.answer_block(call, BlockResponse::Refused(refusal));
    }

    pub(super) fn abandon(&mut self, disk: usize, change: u64, reason: &str) {
        let reason = reason.to_owned();
        self.tell_disk(disk, BlockCommand::Abandoned { change, reason });
    }
}
