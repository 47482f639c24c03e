//! A disk grows: its image first, then what its consumers see of it.
//!
//! ```text
//!  client ─► wanted ─► order ─► block-layer ─► answer ─► consumers told, client answered
//!               │                    │ dies
//!               └────────────────────┴─► its successor opens the image, and says how large it is
//! ```
//!
//! What consumers are told is the record ([`Disk::info`](crate::live::disk::Disk)), by which successors of
//! all of them are planned. Nothing else starts on the disk while it grows.

use bulkhead_protocol::block::BlockOrder;
use bulkhead_protocol::block_control::BlockResponse;
use bulkhead_protocol::device::{BlkCommand, DiskInfo};
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::nbd::NbdCommand;
use bulkhead_protocol::session::Refusal;

use super::order::{NOBODY, Purpose};
use crate::live::Instance;
use crate::live::consumer::Kind;
use crate::live::token::PostIndex;
use crate::refusal::refuse;

/// A size that is wanted, and is not there yet.
#[derive(Debug)]
pub struct Wanted {
    /// Bytes.
    pub size: u64,
    /// Who waits for it.
    call: u64,
}

impl Instance {
    /// Has a disk's block-layer let its image grow.
    pub(super) fn resize_disk(&mut self, call: u64, id: &str, size: u64) -> Result<(), Refusal> {
        let option = format!("resize {id}");
        let disk = self.serving_disk(&option, id)?;
        self.writable_image(&option, disk)?;
        self.refuse_busy(&option, disk)?;
        let jobs = self.disks.get(disk).map_or(&[][..], |disk| &disk.jobs);
        if let Some(job) = jobs.first() {
            let reason = "a job copies the disk as large as it is";
            return Err(refuse(
                option,
                job.name(),
                reason,
                "wait until it has ended, or cancel it",
            ));
        }
        let Some(info) = self.disks.get(disk).and_then(|disk| disk.info) else {
            return Err(refuse(option, size, "its image is not open yet", "try again"));
        };
        if size < info.size {
            let reason =
                format!("it would lose what lies behind: the disk has {} bytes", info.size);
            let remedy =
                "give a larger size; 'bulkhead-img resize --shrink' cuts an image that is off";
            return Err(refuse(option, size, reason, remedy));
        }
        let block = u64::from(info.logical_block.max(512));
        if !size.is_multiple_of(block) || size > i64::MAX as u64 {
            let reason = format!("a size is a multiple of {block} bytes");
            return Err(refuse(option, size, reason, "round it"));
        }
        if let Some(here) = self.disks.get_mut(disk) {
            here.wanted = Some(Wanted { size, call });
        }
        self.order_block(disk, BlockOrder::Resize { size }, &[], Purpose::Resize);
        Ok(())
    }

    /// The block-layer has answered. If it was lost, the image knows what it had done.
    pub(super) fn resize_answered(&mut self, disk: usize, outcome: Result<(), String>) {
        let wanted = self.disks.get_mut(disk).and_then(|disk| disk.wanted.take());
        let Some(Wanted { size, call }) = wanted else {
            return;
        };
        let response = match outcome {
            Ok(()) => {
                self.has_grown(disk, size);
                BlockResponse::Done
            }
            Err(reason) => {
                let option = format!("resize {}", self.disk_name(disk));
                let remedy = "see 'bulkhead block query'";
                BlockResponse::Refused(refuse(option, size, reason, remedy))
            }
        };
        self.answer_block(call, response);
    }

    /// A block-layer's successor has opened the image. Whether that is as large as it may be.
    pub(in crate::live) fn size_after_a_death(&mut self, disk: usize, info: DiskInfo) {
        let wanted = self.disks.get(disk).and_then(|disk| disk.wanted.as_ref());
        let Some(size) = wanted.map(|wanted| wanted.size) else {
            let known = self.disks.get(disk).and_then(|disk| disk.info);
            if known.is_some_and(|known| known.size < info.size) {
                self.has_grown(disk, info.size);
            }
            return;
        };
        let outcome = match info.size == size {
            true => Ok(()),
            false => Err("the block layer died before it was done".to_owned()),
        };
        self.resize_answered(disk, outcome);
    }

    /// Consumers that are there are told; those that come are told by their plans.
    fn has_grown(&mut self, disk: usize, size: u64) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        let Some(info) = here.info.as_mut().filter(|info| info.size != size) else {
            return;
        };
        info.size = size;
        let consumers = here.consumers.iter();
        let consumers: Vec<(Kind, PostIndex)> =
            consumers.map(|consumer| (consumer.kind, consumer.post)).collect();
        for (kind, post) in consumers {
            if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
                // An error is a death, which the pidfd tells.
                let _ = match kind {
                    Kind::Blk => process.command(BlkCommand::Resized { size }, &[]),
                    Kind::Nbd => process.command(NbdCommand::Resized { size }, &[]),
                };
            }
            self.watch_room(post);
        }
        let id = self.disk_name(disk);
        self.tell(EventKind::DiskResized { id, size });
    }

    /// Whether a disk's size is about to change.
    pub(super) fn is_growing(&self, disk: usize) -> bool {
        self.disks.get(disk).is_some_and(|disk| disk.wanted.is_some())
    }

    /// Whoever waits for a size has gone.
    pub(super) fn forget_resizers(&mut self) {
        for wanted in self.disks.iter_mut().filter_map(|disk| disk.wanted.as_mut()) {
            wanted.call = NOBODY;
        }
    }
}
