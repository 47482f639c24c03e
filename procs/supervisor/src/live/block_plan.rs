//! The plan of a disk's block-layer, made from what the disk is now, and whether there is room in it for more.
//!
//! Made anew for each successor: what joins a disk while it is served must fit the next plan as well, or the disk
//! has no successor. That is found out before it joins ([`Instance::refuse_full`]).

use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_channel::{MAX_MESSAGE, Message, codec};
use bulkhead_protocol::block::{BlockCommand, BlockPlan, ExportPlan, Unfinished};
use bulkhead_protocol::filters::Filters;
use bulkhead_protocol::session::Refusal;
use bulkhead_sys::seqpacket::MAX_FDS;

use super::Instance;
use super::consumer::{Consumer, Kind};
use super::disk::Disk;
use crate::plan::Source;
use crate::refusal::refuse;

/// Bytes of a message around a plan: more than there are.
const ENVELOPE: usize = 256;

impl Disk {
    /// What its next block-layer is told, with the descriptors.
    pub(super) fn block_plan<'a>(
        &'a self,
        planned: &'a crate::plan::Disk,
        orders: Vec<Unfinished>,
    ) -> Option<(BlockCommand, Vec<BorrowedFd<'a>>)> {
        let Source::Image(image) = &planned.source else {
            return None;
        };
        let exports = self.consumers.iter().map(|consumer| planned.export_plan(consumer));
        let command = BlockCommand::Plan(Box::new(BlockPlan {
            node: image.chain.plan(image.service),
            layers: image.chain.named(),
            remotes: image.chain.remotes(),
            exports: exports.collect(),
            filters: Filters { limits: self.limits, ..planned.filters.clone() },
            verify: planned.reference.is_some(),
            on_error: planned.on_error,
            jobs: self.jobs.iter().map(|job| job.plan.clone()).collect(),
            orders,
        }));
        let mut fds: Vec<_> = planned.group.iter().map(AsFd::as_fd).collect();
        fds.extend(planned.reference.iter().map(|reference| reference.file.as_fd()));
        fds.extend(image.chain.fds(image.service));
        fds.extend(self.consumers.iter().flat_map(Consumer::ring_fds));
        fds.extend(self.jobs.iter().flat_map(|job| job.fds(&image.chain)));
        Some((command, fds))
    }
}

impl Instance {
    /// Refuses what a successor's plan would have no room for: what comes with `more`.
    pub(super) fn refuse_full(
        &self,
        option: &str,
        disk: usize,
        more: &BlockCommand,
    ) -> Result<(), Refusal> {
        let here = self.disks.get(disk);
        let planned = here.and_then(|here| self.plan.disks.get(here.planned));
        let plan = here.zip(planned);
        let plan = plan.and_then(|(here, planned)| here.block_plan(planned, self.unfinished(disk)));
        let Some((plan, _)) = plan else {
            return Ok(());
        };
        let descriptors = plan.fd_count() + more.fd_count();
        let len =
            |bytes: Result<Vec<u8>, _>| bytes.map_or(MAX_MESSAGE, |bytes: Vec<u8>| bytes.len());
        let bytes = len(codec::encode(&plan)) + len(codec::encode(more)) + ENVELOPE;
        let reason = match (descriptors > MAX_FDS, bytes > MAX_MESSAGE) {
            (false, false) => return Ok(()),
            (true, _) => {
                format!(
                    "its files and exports need {descriptors} descriptors, {MAX_FDS} are the most"
                )
            }
            (_, true) => format!("its files have names and certificates of {bytes} bytes in all"),
        };
        let remedy = "end a job or an export of it, or commit or stream its layers";
        Err(refuse(option, self.disk_name(disk), reason, remedy))
    }
}

impl crate::plan::Disk {
    /// What the block-layer is told of a consumer of this disk.
    pub(super) fn export_plan(&self, consumer: &Consumer) -> ExportPlan {
        let (read_only, cpus) = match consumer.kind {
            Kind::Blk => {
                let export = self.export.as_ref();
                (export.is_some_and(|export| export.read_only), self.cpus.clone())
            }
            Kind::Nbd => (self.nbd(consumer.number).is_none_or(|nbd| nbd.read_only), Vec::new()),
        };
        let bitmap = self.nbd(consumer.number).and_then(|nbd| nbd.bitmap.clone());
        let image = match &self.source {
            Source::Image(image) => image.service.read_only,
            Source::Foreign(_) => true,
        };
        consumer.plan(image || read_only, bitmap, cpus)
    }
}
