//! A disk of our own: its block-layer, its consumers, and the fences between them.
//!
//! What is sent when is decided by [`crate::fence`]; here it is carried out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_channel::ChannelError;
use bulkhead_protocol::block::{BlockCommand, BlockEvent, JobReport};
use bulkhead_protocol::device::{BlkCommand, BlkPlan, DiskInfo, RingShape};
use bulkhead_protocol::filters::Limits;
use bulkhead_protocol::nbd::NbdCommand;

use super::block::job::Job;
use super::block::resize::Wanted;
use super::consumer::{Consumer, Kind, Stay};
use super::device::Queues;
use super::token::PostIndex;
use super::{Instance, Outcome};
use crate::fence::{Action, Fence, Incarnation};
use crate::plan::{EXPORT_QUEUE, MOST_EXPORTS, MOST_RINGS, Source, VM_QUEUE};
use crate::refusal::refuse;

/// The number of a disk's vhost-blk among its consumers, if it has one. NBD exports begin with 1.
pub const BLK: usize = 0;

/// A disk with processes of its own.
#[derive(Debug)]
pub struct Disk {
    /// Its place in the plan.
    pub planned: usize,
    /// Post of its block-layer.
    pub server: PostIndex,
    /// Who uses it: its vhost-blk first, if it has one, then its nbd-servers.
    pub consumers: Vec<Consumer>,
    /// Its PCI device; none in a storage instance.
    pub device: Option<usize>,
    /// Whether a foreign frontend is connected.
    pub frontend: bool,
    /// In-flight table of its vhost-blk.
    pub inflight: OwnedFd,
    /// Jobs of its graph.
    pub jobs: Vec<Job>,
    /// Jobs that have ended and were not dismissed.
    pub concluded: Vec<JobReport>,
    /// Bitmaps that its block-layer keeps in memory only.
    pub bitmaps: Vec<String>,
    /// What its consumers were told that it is, once that is known.
    pub info: Option<DiskInfo>,
    /// The size that it is about to have.
    pub wanted: Option<Wanted>,
    /// Limits that it has now.
    pub limits: Limits,
    queues: Queues,
}

impl Disk {
    /// A disk whose processes are not started yet. Its vhost-blk has `queues` queues.
    pub fn new(
        planned: usize,
        server: PostIndex,
        device: Option<usize>,
        queues: u16,
        consumers: Vec<Consumer>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let size = if device.is_some() { VM_QUEUE } else { EXPORT_QUEUE };
        let queues = Queues { count: queues, size };
        Ok(Self {
            planned,
            server,
            consumers,
            device,
            frontend: false,
            inflight: queues.inflight()?,
            jobs: Vec::new(),
            concluded: Vec::new(),
            bitmaps: Vec::new(),
            info: None,
            wanted: None,
            limits,
            queues,
        })
    }

    /// Prepares it for a vhost-blk of so many queues, of which nothing is in flight.
    pub fn lay_out(&mut self, count: u16) -> std::io::Result<()> {
        let queues = Queues { count, size: EXPORT_QUEUE };
        self.inflight = queues.inflight()?;
        self.queues = queues;
        Ok(())
    }

    /// Whether another export has to wait until one that was removed is gone: its place is in use until then.
    pub fn waits_for_room(&self) -> bool {
        let is_leaving = |consumer: &Consumer| matches!(consumer.stay, Stay::Leaving { .. });
        let exports = self.consumers.iter().filter(|consumer| consumer.kind == Kind::Nbd).count();
        let rings: usize = self.consumers.iter().map(Consumer::queues).sum();
        self.consumers.iter().any(is_leaving) && (exports >= MOST_EXPORTS || rings >= MOST_RINGS)
    }

    /// Its queues.
    pub fn queues(&self) -> Queues {
        self.queues
    }

    /// Post of its vhost-blk, if it has one.
    pub fn client(&self) -> Option<PostIndex> {
        self.consumer(BLK).map(|consumer| consumer.post)
    }

    /// The consumer of a number.
    pub fn consumer(&self, number: usize) -> Option<&Consumer> {
        self.consumers.iter().find(|consumer| consumer.number == number)
    }

    /// The consumer of a number.
    pub fn consumer_mut(&mut self, number: usize) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.number == number)
    }
}

impl Instance {
    /// Tells the fence of one consumer of a disk what happened and carries out what it decides.
    pub(super) fn fenced(
        &mut self,
        disk: usize,
        consumer: usize,
        what: impl FnOnce(&mut Fence) -> Vec<Action>,
    ) {
        let here = self.disks.get_mut(disk).and_then(|disk| disk.consumer_mut(consumer));
        let Some(actions) = here.map(|consumer| what(&mut consumer.fence)) else {
            return;
        };
        self.carry_out_all(disk, actions.into_iter().map(|action| (consumer, action)).collect());
    }

    /// Tells the fences of all consumers what happened to the block-layer that they share.
    pub(super) fn fenced_all(&mut self, disk: usize, what: impl Fn(&mut Fence) -> Vec<Action>) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        let mut actions = Vec::new();
        for consumer in &mut here.consumers {
            let number = consumer.number;
            actions.extend(what(&mut consumer.fence).into_iter().map(|action| (number, action)));
        }
        self.carry_out_all(disk, actions);
    }

    /// A block-layer waits for its plan. Those who use the disk get their rings with it; a disk that nobody uses at
    /// present is served all the same.
    pub(super) fn block_layer_waits(&mut self, disk: usize) {
        match self.disks.get(disk).is_some_and(|disk| disk.consumers.is_empty()) {
            true => self.plan_server(disk),
            false => self.fenced_all(disk, Fence::server_waits),
        }
    }

    /// All rings are made first, then the block-layer gets its one plan with all of them, then everything
    /// else happens.
    fn carry_out_all(&mut self, disk: usize, actions: Vec<(usize, Action)>) {
        let (rings, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|(_, action)| matches!(action, Action::MakeRings(_)));
        let (plans, rest): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(_, action)| matches!(action, Action::PlanServer(_)));
        for (consumer, action) in rings.into_iter().chain(plans.into_iter().take(1)).chain(rest) {
            if let Err(error) = self.carry_out(disk, consumer, action) {
                self.fail(format!("the rings of a disk cannot be made: {error}"));
            }
        }
    }

    fn carry_out(&mut self, disk: usize, number: usize, action: Action) -> std::io::Result<()> {
        let Some(here) = self.disks.get_mut(disk) else {
            return Ok(());
        };
        let server = here.server;
        let Some(consumer) = here.consumer_mut(number) else {
            return Ok(());
        };
        let (kind, client) = (consumer.kind, consumer.post);
        match action {
            Action::MakeRings(incarnation) => consumer.make_rings(incarnation)?,
            Action::PlanServer(_) => self.plan_server(disk),
            Action::PlanClient(incarnation) => match kind {
                Kind::Blk => self.plan_blk(disk, number, incarnation),
                Kind::Nbd => self.plan_nbd(disk, number, incarnation),
            },
            Action::DetachServer => {
                let _ =
                    self.tell_server(server, BlockCommand::Detach { export: number as u32 }, &[]);
            }
            Action::AttachServer(_) if !consumer.introduced => self.introduce(disk, number),
            Action::AttachServer(incarnation) => {
                let rings = consumer.rings()?;
                let (export, queues) = (number as u32, rings.len() as u16);
                let command = BlockCommand::Attach { export, queues, incarnation };
                let fds: Vec<BorrowedFd<'_>> = rings.iter().map(AsFd::as_fd).collect();
                let _ = self.tell_server(server, command, &fds);
            }
            Action::ReplaceClient(incarnation) => {
                let rings = consumer.rings()?;
                let own_fault = self.posts.get(server).is_some_and(|post| post.own_fault);
                let fds: Vec<BorrowedFd<'_>> = rings.iter().map(AsFd::as_fd).collect();
                self.replace_rings(client, kind, incarnation, own_fault, &fds);
            }
            Action::CondemnClient => {
                self.condemn(client, "it broke the protocol of its block ring".into());
            }
        }
        Ok(())
    }

    fn replace_rings(
        &mut self,
        client: PostIndex,
        kind: Kind,
        incarnation: Incarnation,
        own_fault: bool,
        fds: &[BorrowedFd<'_>],
    ) {
        if let Some(process) = self.posts.get_mut(client).and_then(|post| post.planned_mut()) {
            // An error is a death, which the pidfd tells.
            let _ = match kind {
                Kind::Blk => {
                    let queues = fds.len() as u16;
                    process
                        .command(BlkCommand::RingReplaced { queues, incarnation, own_fault }, fds)
                }
                Kind::Nbd => {
                    process.command(NbdCommand::RingReplaced { incarnation, own_fault }, fds)
                }
            };
        }
        self.watch_room(client);
    }

    /// Tells a block-layer that has its plan. An error of the channel is a death, which the pidfd tells.
    pub(super) fn tell_server(
        &mut self,
        post: PostIndex,
        command: BlockCommand,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let process = self.posts.get_mut(post).and_then(|post| post.planned_mut());
        let sent = process.map_or(Ok(()), |process| process.command(command, fds));
        self.watch_room(post);
        sent
    }

    fn plan_server(&mut self, disk: usize) {
        if let Err(error) = self.prepare_sockets(disk) {
            return self.fail(format!("no socket can be had: {error}"));
        }
        self.send_plan(disk);
        self.hand_over_sockets(disk);
    }

    fn send_plan(&mut self, disk: usize) {
        let Some(here) = self.disks.get(disk) else {
            return;
        };
        let (planned, orders) = (self.plan.disks.get(here.planned), self.unfinished(disk));
        let Some((command, fds)) = planned.and_then(|planned| here.block_plan(planned, orders))
        else {
            return;
        };
        let post = here.server;
        let process = self.posts.get_mut(post).and_then(|post| post.process_mut());
        let sent = process.map_or(Ok(()), |process| process.command(command, &fds));
        if let Err(error) = sent
            && error.is_of_the_message()
        {
            return self.condemn(post, format!("its plan cannot be sent: {error}"));
        }
        self.was_planned(post);
        let consumers = self.disks.get_mut(disk).map(|disk| &mut disk.consumers);
        consumers.into_iter().flatten().for_each(|consumer| consumer.introduced = true);
    }

    /// A consumer that came after the block-layer's plan.
    fn introduce(&mut self, disk: usize, number: usize) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        let server = here.server;
        let planned = self.plan.disks.get(here.planned);
        let (Some(planned), Some(consumer)) = (planned, here.consumer_mut(number)) else {
            return;
        };
        consumer.introduced = true;
        let command = BlockCommand::AddExport(planned.export_plan(consumer));
        let fds: Vec<_> = consumer.ring_fds().map(|fd| fd.try_clone_to_owned()).collect();
        let fds: Vec<OwnedFd> = fds.into_iter().filter_map(Result::ok).collect();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let _ = self.tell_server(server, command, &fds);
    }

    fn plan_blk(&mut self, disk: usize, number: usize, incarnation: Incarnation) {
        let Some(here) = self.disks.get(disk) else {
            return;
        };
        let Some(consumer) = here.consumer(number) else {
            return;
        };
        let (Some(planned), Some(info)) = (self.plan.disks.get(here.planned), here.info) else {
            return;
        };
        let read_only = planned.export.as_ref().is_some_and(|export| export.read_only);
        let command = BlkCommand::Plan(BlkPlan {
            disk: DiskInfo { read_only: info.read_only || read_only, ..info },
            serial: planned.serial.clone(),
            queues: here.queues.plan(self.own_fault(consumer.post)),
            ring: RingShape::DEFAULT,
            incarnation,
            cpus: planned.cpus.clone(),
        });
        let mut fds = vec![here.inflight.as_fd()];
        fds.extend(consumer.ring_fds());
        let (post, device) = (consumer.post, here.device);
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &fds);
        }
        self.was_planned(post);
        if let Some(device) = device {
            self.connect_device(device);
        }
    }

    /// News from a block-layer.
    pub(super) fn on_block(&mut self, post: PostIndex, event: BlockEvent) {
        let Some(disk) = self.disks.iter().position(|disk| disk.server == post) else {
            return;
        };
        match event {
            BlockEvent::Opened(info) => self.on_opened(disk, post, info),
            BlockEvent::Refused { reason } => self.on_image_refused(disk, post, reason),
            BlockEvent::Away { layer, reason } => self.on_server_away(disk, post, layer, reason),
            BlockEvent::Detached { export } => {
                self.fenced(disk, export as usize, Fence::server_detached);
                self.part_if_apart(disk, export as usize);
            }
            BlockEvent::ExportFault { export, .. } => {
                self.fenced(disk, export as usize, Fence::client_at_fault);
            }
            BlockEvent::SocketWanted { layer } => self.on_socket_wanted(disk, post, layer),
            BlockEvent::Connected { layer, export } => self.on_connected(disk, layer, export),
            BlockEvent::Disconnected { layer, reason } => {
                self.on_disconnected(disk, layer, reason);
            }
            event => self.on_graph_news(disk, post, event),
        }
    }

    /// What the guest was told a disk is stays so during the life of an instance, whatever files it
    /// consists of.
    fn on_opened(&mut self, disk: usize, post: PostIndex, info: DiskInfo) {
        if let Some(here) = self.disks.get_mut(disk).filter(|disk| disk.info.is_none()) {
            here.info = Some(info);
            return self.fenced_all(disk, Fence::disk_is_known);
        }
        match self.is_as_told(disk, info) {
            true => self.size_after_a_death(disk, info),
            false => self.condemn(post, "the image is not what it was".into()),
        }
    }

    /// Whether a guest is well served by a graph that is `info`, or will be when it is told its size.
    fn is_as_told(&self, disk: usize, info: DiskInfo) -> bool {
        let Some((here, known)) = self.disks.get(disk).and_then(|here| Some((here, here.info?)))
        else {
            return false;
        };
        let wanted = here.wanted.as_ref().is_some_and(|wanted| wanted.size == info.size);
        // Larger without having been asked: it grew, and then said that something had failed.
        (info.size >= known.size || wanted)
            && info.read_only == known.read_only
            && known.logical_block.is_multiple_of(info.logical_block.max(1))
    }

    pub(super) fn on_image_refused(&mut self, disk: usize, post: PostIndex, reason: String) {
        let planned = self.disks.get(disk).map(|disk| disk.planned);
        let Some(planned) = planned.and_then(|index| self.plan.disks.get(index)) else {
            return;
        };
        if self.started {
            return self.condemn(post, format!("the image cannot be opened: {reason}"));
        }
        let path = match &planned.source {
            Source::Image(image) => {
                image.chain.top().map_or("null-co".to_owned(), |top| top.path.display().to_string())
            }
            Source::Foreign(foreign) => foreign.path.display().to_string(),
        };
        let option = format!("--disk {}", planned.id);
        let refusal = refuse(option, path, reason, "check the image");
        self.conclude(Outcome::Refused(refusal));
    }
}
