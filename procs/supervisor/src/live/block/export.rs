//! Exports that come and go while their disk is served.
//!
//! A listening socket is bound here and shown when its server serves; it is removed at once when its export
//! is to go. The server is ended by a kill: nothing that it was sent and has not answered is promised, and
//! what it has answered is the block-layer's. The export's number in the block-layer is free when that has
//! said that nothing of it is under way: see [`crate::live::consumer`].
//!
//! An export for vhost-user frontends is that of a storage instance: a guest's disk has its vhost-blk for good. It has
//! an in-flight table of its own, in which nothing is when it is added.

use bulkhead_protocol::block::{BlockCommand, ExportPlan};
use bulkhead_protocol::block_control::{BlockResponse, ExportState};
use bulkhead_protocol::device::RingShape;
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::nbd::{NBD_RING, NbdCommand};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{ExportSpec, NbdSpec};

use super::order::NOBODY;
use crate::fence::Fence;
use crate::live::Instance;
use crate::live::consumer::{Consumer, Kind, Stay};
use crate::live::disk::{BLK, Disk};
use crate::live::post::{Phase, Role};
use crate::live::token::PostIndex;
use crate::plan;
use crate::refusal::refuse;
use crate::restart::Cause;

/// As large a plan as the export will have.
fn like(spec: &NbdSpec) -> ExportPlan {
    ExportPlan {
        export: 0,
        queues: 1,
        ring: NBD_RING,
        incarnation: 0,
        read_only: spec.read_only,
        bitmap: spec.bitmap.clone(),
        cpus: Vec::new(),
    }
}

/// The same of one for vhost-user frontends, without its queues.
fn of_blk() -> ExportPlan {
    let (ring, read_only, bitmap) = (RingShape::DEFAULT, false, None);
    ExportPlan { export: 0, queues: 0, ring, incarnation: 0, read_only, bitmap, cpus: Vec::new() }
}

impl Instance {
    /// Binds the socket and orders the server. Answered when it serves.
    pub(super) fn add_export(&mut self, call: u64, spec: &NbdSpec) -> Result<(), Refusal> {
        let option = format!("export add nbd,disk={}", spec.disk);
        let disk =
            self.disk_of(&spec.disk).ok_or_else(|| self.no_such_disk(&option, &spec.disk))?;
        self.refuse_crowded(&option, disk)?;
        self.refuse_full(&option, disk, &BlockCommand::AddExport(like(spec)))?;
        let vm = self.machine.is_some();
        let (_, number) = plan::add_nbd(spec, &mut self.plan.disks, vm, false)?;
        let made = Consumer::new(Kind::Nbd, number, 0, 1, NBD_RING);
        let consumer = made.map_err(|error| self.not_joined(&option, disk, number, &error))?;
        let id = self.export_id(disk, number);
        let post = self.post(Role::Nbd(disk, number), &id, &[], Vec::new());
        self.join(disk, consumer, post, call);
        Ok(())
    }

    /// The same for vhost-user frontends.
    pub(super) fn add_vhost_user(&mut self, call: u64, spec: &ExportSpec) -> Result<(), Refusal> {
        let option = format!("export add vhost-user-blk,disk={}", spec.disk);
        let disk =
            self.disk_of(&spec.disk).ok_or_else(|| self.no_such_disk(&option, &spec.disk))?;
        if self.machine.is_some() {
            let (reason, remedy) =
                ("the disk is its guest's", "add an export that begins with nbd");
            return Err(refuse(option, &spec.disk, reason, remedy));
        }
        self.refuse_crowded(&option, disk)?;
        let plan =
            ExportPlan { queues: spec.queues, cpus: vec![0; spec.queues.into()], ..of_blk() };
        self.refuse_full(&option, disk, &BlockCommand::AddExport(plan))?;
        let Some(planned) = self.disks.get(disk).map(|disk| disk.planned) else {
            return Ok(());
        };
        if let Some(planned) = self.plan.disks.get_mut(planned) {
            plan::add_export(spec, planned)?;
        }
        let laid_out = self.disks.get_mut(disk).map_or(Ok(()), |disk| disk.lay_out(spec.queues));
        let made = laid_out
            .and_then(|()| Consumer::new(Kind::Blk, BLK, 0, spec.queues, RingShape::DEFAULT));
        let consumer = made.map_err(|error| self.not_joined(&option, disk, BLK, &error))?;
        let cpus = self.planned(disk).map(|disk| disk.cpus.clone()).unwrap_or_default();
        let arguments = vec![spec.queues.to_string()];
        let post = self.post(Role::Blk(disk), &spec.disk, &cpus, arguments);
        self.join(disk, consumer, post, call);
        Ok(())
    }

    /// Whether something that was removed still holds its place.
    fn refuse_crowded(&self, option: &str, disk: usize) -> Result<(), Refusal> {
        let is_left = |disk: &Disk| {
            let blk = disk.consumer(BLK);
            let leaves = blk.is_some_and(|blk| matches!(blk.stay, Stay::Leaving { .. }));
            leaves || disk.waits_for_room()
        };
        match self.disks.get(disk).is_some_and(is_left) {
            false => Ok(()),
            true => {
                let reason =
                    "an export that was removed holds its place until nothing of it is under way";
                Err(refuse(option, self.disk_name(disk), reason, "try again"))
            }
        }
    }

    fn not_joined(
        &mut self,
        option: &str,
        disk: usize,
        number: usize,
        error: &std::io::Error,
    ) -> Refusal {
        self.close_door(disk, number);
        let remedy = "end something that needs memory or descriptors";
        refuse(option, self.disk_name(disk), error, remedy)
    }

    fn join(&mut self, disk: usize, mut consumer: Consumer, post: PostIndex, call: u64) {
        let Some(here) = self.disks.get(disk) else {
            return;
        };
        let serving = self
            .posts
            .get(here.server)
            .is_some_and(|post| matches!(post.phase, Phase::Planned(_) | Phase::Serving(..)));
        let fence = Fence::joining(serving, here.info.is_some());
        (consumer.post, consumer.fence, consumer.stay) = (post, fence, Stay::Joining { call });
        if let Some(here) = self.disks.get_mut(disk) {
            here.consumers.push(consumer);
        }
        self.order(post);
        self.plan.update_record();
    }

    /// Ends an export, unless it has clients and `force` is not said.
    pub(super) fn remove_export(
        &mut self,
        call: u64,
        export: &str,
        force: bool,
    ) -> Result<(), Refusal> {
        let option = "export remove";
        let Some((disk, number)) = self.export_of(export) else {
            let remedy = "see 'bulkhead block export list'";
            return Err(refuse(option, export, "there is no such export", remedy));
        };
        let Some(consumer) = self.consumer_mut(disk, number) else {
            return Ok(());
        };
        if consumer.stay != Stay::Member {
            let reason = "it is being added or removed";
            return Err(refuse(option, export, reason, "try again"));
        }
        let (kind, post) = (consumer.kind, consumer.post);
        if kind == Kind::Blk {
            let connected = self.disks.get(disk).is_some_and(|disk| disk.frontend);
            if connected && !force {
                let remedy = "end it first, or give --force";
                return Err(refuse(option, export, "a frontend is connected", remedy));
            }
            self.let_go(disk, number, call, BlockResponse::Done);
            return Ok(());
        }
        let serving = self
            .posts
            .get_mut(post)
            .filter(|post| !force && matches!(post.phase, Phase::Serving(..)));
        let Some(process) = serving.and_then(|post| post.planned_mut()) else {
            self.let_go(disk, number, call, BlockResponse::Done);
            return Ok(());
        };
        // An error is a death, and then it has no clients.
        let _ = process.command(NbdCommand::Close, &[]);
        self.watch_room(post);
        if let Some(consumer) = self.consumer_mut(disk, number) {
            consumer.stay = Stay::Asked { call };
        }
        Ok(())
    }

    /// Every export of every disk.
    pub(super) fn list_exports(&mut self, call: u64) {
        let exports = self.disks.iter().flat_map(|disk| self.exports_of(disk)).collect();
        self.answer_block(call, BlockResponse::Exports(exports));
    }

    fn exports_of(&self, disk: &Disk) -> Vec<ExportState> {
        let Some(planned) = self.plan.disks.get(disk.planned) else {
            return Vec::new();
        };
        let serves = |number| {
            let post = disk.consumer(number).and_then(|consumer| self.posts.get(consumer.post));
            post.is_some_and(|post| matches!(post.phase, Phase::Serving(..)))
        };
        let blk = planned.export.iter().map(|export| ExportState {
            export: planned.blk_export_id(),
            kind: "vhost-user-blk".to_owned(),
            disk: planned.id.clone(),
            address: export.path.display().to_string(),
            read_only: export.read_only,
            serving: serves(BLK),
        });
        let nbd = planned.nbd.iter().map(|export| ExportState {
            export: export.id.clone(),
            kind: "nbd".to_owned(),
            disk: planned.id.clone(),
            address: export.door.address.clone(),
            read_only: export.read_only,
            serving: serves(export.number),
        });
        blk.chain(nbd).collect()
    }

    /// The socket of an export is shown.
    pub(in crate::live) fn export_serves(&mut self, disk: usize, number: usize) {
        let Some(consumer) = self.consumer_mut(disk, number) else {
            return;
        };
        let Stay::Joining { call } = consumer.stay else {
            return;
        };
        consumer.stay = Stay::Member;
        let (id, export) = (self.disk_name(disk), self.export_id(disk, number));
        let address = self.planned(disk).map(|disk| disk.address_of(number)).unwrap_or_default();
        self.tell(EventKind::ExportAdded { id, export: export.clone(), address });
        self.answer_block(call, BlockResponse::Added(export));
    }

    /// Whether an export was added and does not serve yet.
    pub(in crate::live) fn joins(&self, disk: usize, number: usize) -> bool {
        let consumer = self.disks.get(disk).and_then(|disk| disk.consumer(number));
        consumer.is_some_and(|consumer| matches!(consumer.stay, Stay::Joining { .. }))
    }

    /// What was added cannot be had.
    pub(in crate::live) fn export_cannot_serve(
        &mut self,
        disk: usize,
        number: usize,
        reason: String,
    ) {
        let Some(Stay::Joining { call }) =
            self.consumer_mut(disk, number).map(|consumer| consumer.stay.clone())
        else {
            return;
        };
        let answer = self.not_added(disk, number, reason);
        self.let_go(disk, number, call, answer);
    }

    fn not_added(&self, disk: usize, number: usize, reason: String) -> BlockResponse {
        let kind = if number == BLK { "vhost-user-blk" } else { "nbd" };
        let option = format!("export add {kind},disk={}", self.disk_name(disk));
        let remedy = "see 'bulkhead events'; it was not added";
        BlockResponse::Refused(refuse(option, self.export_id(disk, number), reason, remedy))
    }

    /// A server that was asked has no clients, and takes none.
    pub(in crate::live) fn export_is_closed(&mut self, disk: usize, number: usize) {
        if let Some(Stay::Asked { call }) =
            self.consumer_mut(disk, number).map(|consumer| consumer.stay.clone())
        {
            self.let_go(disk, number, call, BlockResponse::Done);
        }
    }

    /// A server that was asked has clients.
    pub(in crate::live) fn export_is_used(&mut self, disk: usize, number: usize, clients: u32) {
        let export = self.export_id(disk, number);
        let Some(consumer) = self.consumer_mut(disk, number) else {
            return;
        };
        let Stay::Asked { call } = consumer.stay else {
            return;
        };
        consumer.stay = Stay::Member;
        let reason = format!("it has {clients} client{}", if clients == 1 { "" } else { "s" });
        let remedy = "end them first, or give --force";
        let refusal = refuse("export remove", export, reason, remedy);
        self.answer_block(call, BlockResponse::Refused(refusal));
    }

    /// The export goes: its socket now, its process when it is reaped.
    fn let_go(&mut self, disk: usize, number: usize, call: u64, answer: BlockResponse) {
        let export = self.export_id(disk, number);
        self.close_door(disk, number);
        self.plan.update_record();
        let Some(consumer) = self.consumer_mut(disk, number) else {
            return;
        };
        consumer.stay = Stay::Leaving { call, answer, export, reaped: false };
        let post = consumer.post;
        match self.posts.get(post).is_some_and(|post| post.process().is_some()) {
            true => self.condemn(post, "its export was removed".into()),
            false => self.reaped_for_good(post, disk, number),
        }
    }

    fn close_door(&mut self, disk: usize, number: usize) {
        if number == BLK {
            self.rest_export(disk);
        }
        let planned = self.disks.get(disk).map(|disk| disk.planned);
        let Some(disk) = planned.and_then(|planned| self.plan.disks.get_mut(planned)) else {
            return;
        };
        match number {
            BLK => disk.export = None,
            _ => disk.nbd.retain(|export| export.number != number),
        }
    }

    /// The process of a role was reaped, or never born. The consumer that it was, if its death is none that
    /// is repaired: its export is to go, or was added and cannot serve.
    pub(in crate::live) fn unmissed(
        &mut self,
        role: Role,
        how: &str,
        cause: Cause,
    ) -> Option<(usize, usize)> {
        let (disk, number) = match role {
            Role::Nbd(disk, number) => (disk, number),
            Role::Blk(disk) => (disk, BLK),
            _ => return None,
        };
        match self.consumer_mut(disk, number)?.stay.clone() {
            Stay::Leaving { .. } => {}
            Stay::Asked { call } => self.let_go(disk, number, call, BlockResponse::Done),
            Stay::Joining { .. } if cause != Cause::Outside => {
                self.export_cannot_serve(disk, number, format!("its process died: {how}"));
            }
            Stay::Joining { .. } | Stay::Member => return None,
        }
        if number == BLK {
            self.blk_lost(disk);
        }
        Some((disk, number))
    }

    /// Nobody comes after the process of this post.
    pub(in crate::live) fn reaped_for_good(&mut self, post: PostIndex, disk: usize, number: usize) {
        if let Some(Stay::Leaving { reaped, .. }) =
            self.consumer_mut(disk, number).map(|consumer| &mut consumer.stay)
            && !std::mem::replace(reaped, true)
        {
            if let Some(place) = self.posts.get_mut(post) {
                place.phase = Phase::Unneeded;
            }
            self.fenced(disk, number, Fence::client_reaped);
            self.fenced(disk, number, Fence::client_leaves);
            self.part_if_apart(disk, number);
        }
    }

    /// Forgets an export of which nothing is left.
    pub(in crate::live) fn part_if_apart(&mut self, disk: usize, number: usize) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        let server = here.server;
        let is_over = |consumer: &Consumer| {
            let reaped = matches!(consumer.stay, Stay::Leaving { reaped: true, .. });
            consumer.number == number && reaped && consumer.fence.is_apart()
        };
        let Some(at) = here.consumers.iter().position(is_over) else {
            return;
        };
        let Consumer { introduced, stay, .. } = here.consumers.remove(at);
        if introduced {
            let export = number as u32;
            let _ = self.tell_server(server, BlockCommand::RemoveExport { export }, &[]);
        }
        if let Stay::Leaving { call, answer, export, .. } = stay {
            if answer == BlockResponse::Done {
                let id = self.disk_name(disk);
                self.tell(EventKind::ExportRemoved { id, export });
            }
            self.answer_block(call, answer);
        }
    }

    /// The block-layer that knew them was reaped.
    pub(in crate::live) fn introductions_lost(&mut self, disk: usize) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        here.consumers.iter_mut().for_each(|consumer| consumer.introduced = false);
        let numbers: Vec<_> = here.consumers.iter().map(|consumer| consumer.number).collect();
        for number in numbers {
            self.part_if_apart(disk, number);
        }
    }

    /// Whoever waits for exports to come or go has gone.
    pub(super) fn forget_export_callers(&mut self) {
        for consumer in self.disks.iter_mut().flat_map(|disk| &mut disk.consumers) {
            match &mut consumer.stay {
                Stay::Member => {}
                Stay::Joining { call } | Stay::Asked { call } | Stay::Leaving { call, .. } => {
                    *call = NOBODY;
                }
            }
        }
    }

    fn consumer_mut(&mut self, disk: usize, number: usize) -> Option<&mut Consumer> {
        self.disks.get_mut(disk)?.consumer_mut(number)
    }

    fn export_id(&self, disk: usize, number: usize) -> String {
        let planned = self.planned(disk);
        planned.and_then(|disk| disk.export_id(number)).unwrap_or_default()
    }

    fn export_of(&self, id: &str) -> Option<(usize, usize)> {
        (0..self.disks.len()).find_map(|disk| {
            let (here, planned) = (self.disks.get(disk)?, self.planned(disk)?);
            let numbers = here.consumers.iter().map(|consumer| consumer.number);
            let is_it = |number: &usize| planned.export_id(*number).as_deref() == Some(id);
            numbers.filter(is_it).map(|number| (disk, number)).next()
        })
    }
}
