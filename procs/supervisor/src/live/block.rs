//! What users ask about disks while they are served, and the record of it that outlives a block-layer.
//!
//! ```text
//! client ─► request ─► files opened, locked ─► order ─► block-layer
//!                                                         │ Switching
//!              record of the new chain ◄──────────────────┘
//!                 └──► Switched ─► block-layer;  answer ─► client
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | [`order`] | orders to block-layers that are not answered yet |
//! | [`query`] | what there is |
//! | [`files`] | the files that a request names |
//! | [`resize`] | a disk grows |
//! | [`go_back`] | a disk becomes what it was in an internal snapshot |
//! | [`snapshot`] | new top layers on several disks, all or none |
//! | [`export`] | exports that come and go |
//! | [`job`] | jobs: their record, their start, their end |
//! | [`lineage`] | what each kind of job makes of a chain |
//! | [`switch`] | a disk goes over to another chain |
//!
//! Law: nobody is waited for. A block-layer that dies answers nothing more; whoever waits for it is told so
//! when it was reaped.

mod export;
pub mod files;
mod go_back;
pub mod job;
mod lineage;
pub mod order;
pub mod query;
pub mod resize;
pub mod snapshot;
mod switch;

use bulkhead_channel::{MAX_MESSAGE, codec};
use bulkhead_protocol::block::{BlockCommand, BlockOrder};
use bulkhead_protocol::block_control::{
    BitmapAction, BlockRequest, BlockResponse, InternalAction, JobAction,
};
use bulkhead_protocol::control::Response;
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::filters::Limits;
use bulkhead_protocol::session::Refusal;

use super::Instance;
use crate::plan::{Image, Source};
use crate::refusal::refuse;
use order::{NOBODY, Purpose, Then};

/// Bytes of a message around an answer: more than there are.
const ENVELOPE: usize = 256;

impl Instance {
    /// A client's request about disks.
    pub(super) fn on_block_request(&mut self, call: u64, request: BlockRequest) {
        let begun = match request {
            BlockRequest::Query => return self.query(call, false),
            BlockRequest::Jobs => return self.query(call, true),
            BlockRequest::Snapshot(overlays) => self.begin_snapshot(call, overlays),
            BlockRequest::Start(start) => self.start_job(call, start),
            BlockRequest::Job { job, action } => self.act_on_job(call, &job, action),
            BlockRequest::Bitmap { disk, bitmap, action } => {
                self.pass_on(call, &disk, BlockOrder::Bitmap { bitmap, action })
            }
            BlockRequest::InternalSnapshot { disk, snapshot, action: InternalAction::Apply } => {
                self.go_back(call, &disk, snapshot)
            }
            BlockRequest::InternalSnapshot { disk, snapshot, action } => {
                let time = super::events::now() / 1_000_000;
                let order = BlockOrder::InternalSnapshot { snapshot, action, time };
                self.pass_on(call, &disk, order)
            }
            BlockRequest::Resume { disk } => self.pass_on(call, &disk, BlockOrder::Resume),
            BlockRequest::Resize { disk, size } => self.resize_disk(call, &disk, size),
            BlockRequest::Exports => return self.list_exports(call),
            BlockRequest::AddExport(spec) => self.add_export(call, &spec),
            BlockRequest::AddVhostUserExport(spec) => self.add_vhost_user(call, &spec),
            BlockRequest::RemoveExport { export, force } => {
                self.remove_export(call, &export, force)
            }
            BlockRequest::Throttle { disk, limits } => {
                self.pass_on(call, &disk, BlockOrder::Throttle(limits))
            }
        };
        if let Err(refusal) = begun {
            self.answer_block(call, BlockResponse::Refused(refusal));
        }
    }

    pub(super) fn answer_block(&mut self, call: u64, response: BlockResponse) {
        if call == NOBODY {
            return;
        }
        let fits = |bytes: Vec<u8>| bytes.len() + ENVELOPE <= MAX_MESSAGE;
        let response = match codec::encode(&response).is_ok_and(fits) {
            true => response,
            false => {
                let (reason, remedy) = ("its answer is too long", "use fewer disks and names");
                BlockResponse::Refused(refuse("block", &self.plan.name, reason, remedy))
            }
        };
        self.answer(call, Response::Block(response), &[]);
    }

    /// The disk of a name that a client gave, if it has a block-layer that takes orders.
    fn serving_disk(&self, option: &str, id: &str) -> Result<usize, Refusal> {
        let disk = self.disk_of(id).ok_or_else(|| self.no_such_disk(option, id))?;
        match self.takes_orders(disk) {
            true => Ok(disk),
            false => Err(refuse(option, id, "its block layer is being replaced", "try again")),
        }
    }

    fn no_such_disk(&self, option: &str, id: &str) -> Refusal {
        let known: Vec<_> = self.plan.disks.iter().map(|disk| disk.id.as_str()).collect();
        let remedy = format!("its disks are {}", known.join(", "));
        refuse(option, id, "there is no such disk of an image", remedy)
    }

    fn disk_of(&self, id: &str) -> Option<usize> {
        (0..self.disks.len()).find(|disk| self.planned(*disk).is_some_and(|disk| disk.id == id))
    }

    fn planned(&self, disk: usize) -> Option<&crate::plan::Disk> {
        self.disks.get(disk).and_then(|disk| self.plan.disks.get(disk.planned))
    }

    fn image(&self, disk: usize) -> Option<&Image> {
        match &self.planned(disk)?.source {
            Source::Image(image) => Some(image),
            Source::Foreign(_) => None,
        }
    }

    fn image_mut(&mut self, disk: usize) -> Option<&mut Image> {
        let planned = self.disks.get(disk)?.planned;
        match &mut self.plan.disks.get_mut(planned)?.source {
            Source::Image(image) => Some(image),
            Source::Foreign(_) => None,
        }
    }

    /// Whether a layer of the disk has a secret.
    pub(super) fn is_encrypted(&self, disk: usize) -> bool {
        let layers = self.image(disk).map_or(&[][..], |image| image.chain.layers());
        layers.iter().any(|layer| layer.secret.is_some())
    }

    /// An image that its users may write.
    fn writable_image(&self, option: &str, disk: usize) -> Result<&Image, Refusal> {
        let id = self.planned(disk).map_or("", |disk| &disk.id);
        match self.image(disk) {
            Some(image) if image.chain.top().is_none() => {
                Err(refuse(option, id, "the disk has no files", "choose one of an image"))
            }
            Some(image) if !image.service.read_only => Ok(image),
            _ => Err(refuse(option, id, "the disk is read-only", "choose one that is written")),
        }
    }

    /// Whether the disk's block-layer has its plan and has not been killed.
    fn takes_orders(&self, disk: usize) -> bool {
        let server = self.disks.get(disk).and_then(|disk| self.posts.get(disk.server));
        server.is_some_and(|post| matches!(post.phase, super::post::Phase::Serving(..)))
    }

    /// An order that concerns no file.
    fn pass_on(&mut self, call: u64, id: &str, order: BlockOrder) -> Result<(), Refusal> {
        let disk = self.serving_disk("DISK", id)?;
        let then = match &order {
            BlockOrder::Throttle(limits) => Then::Limits(*limits),
            BlockOrder::Bitmap { bitmap, action } => match action {
                BitmapAction::Add { persistent: false, .. } => Then::Bitmap(bitmap.clone()),
                BitmapAction::Remove => Then::NoBitmap(bitmap.clone()),
                _ => Then::Nothing,
            },
            _ => Then::Nothing,
        };
        let limits = match &order {
            BlockOrder::Throttle(limits) => Some(*limits),
            _ => None,
        };
        let purpose = Purpose::Client { call, disk: id.to_owned(), then };
        self.order_block(disk, order, &[], purpose);
        if let Some(limits) = limits {
            self.throttle_group(disk, limits);
        }
        Ok(())
    }

    /// The limits of a disk are those of its group.
    fn throttle_group(&mut self, disk: usize, limits: Limits) {
        let group = |disk: &crate::plan::Disk| disk.filters.group.clone();
        let Some(name) = self.planned(disk).and_then(group) else {
            return;
        };
        for other in (0..self.disks.len()).filter(|other| *other != disk) {
            if self.planned(other).and_then(group).as_ref() != Some(&name) {
                continue;
            }
            // For its successor, if it has no ears now.
            if let Some(other) = self.disks.get_mut(other) {
                other.limits = limits;
            }
            if self.takes_orders(other) {
                let (call, disk) = (NOBODY, self.disk_name(other));
                let purpose = Purpose::Client { call, disk, then: Then::Limits(limits) };
                self.order_block(other, BlockOrder::Throttle(limits), &[], purpose);
            }
        }
    }

    /// Tells the disk's block-layer.
    fn tell_disk(&mut self, disk: usize, command: BlockCommand) {
        if let Some(server) = self.disks.get(disk).map(|disk| disk.server) {
            let _ = self.tell_server(server, command, &[]);
        }
    }

    /// The block-layer of a disk was reaped.
    pub(super) fn block_layer_lost(&mut self, disk: usize) {
        self.orders_lost(disk);
        self.jobs_lost(disk);
        let bitmaps = self.disks.get_mut(disk).map(|disk| std::mem::take(&mut disk.bitmaps));
        for bitmap in bitmaps.unwrap_or_default() {
            let id = self.disk_name(disk);
            self.tell(EventKind::BitmapLost { id, bitmap });
        }
    }

    fn act_on_job(&mut self, call: u64, job: &str, action: JobAction) -> Result<(), Refusal> {
        if action == JobAction::Dismiss {
            self.dismiss_job(job)?;
            self.answer_block(call, BlockResponse::Done);
            return Ok(());
        }
        let Some(disk) = self.disk_of_job(job) else {
            return Err(self.no_such_job(job));
        };
        let id = self.planned(disk).map(|disk| disk.id.clone()).unwrap_or_default();
        let disk = self.serving_disk("JOB", &id)?;
        let purpose = Purpose::Action { call, job: job.to_owned(), action };
        let order = BlockOrder::Job { job: job.to_owned(), action };
        self.order_block(disk, order, &[], purpose);
        Ok(())
    }
}
