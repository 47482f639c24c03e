//! A disk of our own: its block-layer, its vhost-blk, the rings between them and the fence.
//!
//! What is sent when is decided by [`crate::fence`]; here it is carried out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::block::{BlockCommand, BlockEvent, BlockPlan, ExportPlan, JobReport};
use bulkhead_protocol::block_control::Limits;
use bulkhead_protocol::device::{BlkCommand, BlkPlan, DiskInfo, RingShape};
use bulkhead_ring::RingGeometry;
use bulkhead_sys::eventfd::Doorbell;

use super::block::job::Job;
use super::device::Queues;
use super::token::PostIndex;
use super::{Instance, Outcome};
use crate::fence::{Action, Fence, Incarnation};
use crate::plan::{EXPORT_QUEUE, Source, VM_QUEUE};
use crate::refusal::refuse;

/// The only consumer of a disk's graph so far.
const EXPORT: u32 = 0;

/// A disk with processes of its own.
#[derive(Debug)]
pub struct Disk {
    /// Its place in the plan.
    pub planned: usize,
    /// Post of its block-layer.
    pub server: PostIndex,
    /// Post of its vhost-blk.
    pub client: PostIndex,
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
    /// Limits that its user set.
    pub limits: Limits,
    fence: Fence,
    bells: Vec<Bells>,
    rings: Vec<OwnedFd>,
    queues: Queues,
}

/// Doorbells of one queue; they outlive every incarnation of its rings.
#[derive(Debug)]
struct Bells {
    submission: Doorbell,
    completion: Doorbell,
}

impl Disk {
    /// A disk of `queues` queues whose processes are not started yet.
    pub fn new(
        planned: usize,
        posts: (PostIndex, PostIndex),
        device: Option<usize>,
        queues: u16,
    ) -> std::io::Result<Self> {
        let size = if device.is_some() { VM_QUEUE } else { EXPORT_QUEUE };
        let queues = Queues { count: queues, size };
        let bells = || Ok(Bells { submission: Doorbell::new()?, completion: Doorbell::new()? });
        Ok(Self {
            planned,
            server: posts.0,
            client: posts.1,
            device,
            frontend: false,
            inflight: queues.inflight()?,
            jobs: Vec::new(),
            concluded: Vec::new(),
            bitmaps: Vec::new(),
            info: None,
            limits: Limits::default(),
            fence: Fence::new(),
            bells: (0..queues.count).map(|_| bells()).collect::<std::io::Result<_>>()?,
            rings: Vec::new(),
            queues,
        })
    }

    /// Its queues.
    pub fn queues(&self) -> Queues {
        self.queues
    }

    /// Fresh rings of one incarnation. The old ones live on in whoever still maps them.
    fn make_rings(&mut self, incarnation: Incarnation) -> std::io::Result<()> {
        let shape = RingShape::DEFAULT;
        let geometry = RingGeometry::new(shape.entries, shape.arena);
        let geometry = geometry.map_err(std::io::Error::other)?;
        let make = |_| bulkhead_ring::create(geometry, incarnation);
        self.rings = (0..self.bells.len()).map(make).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Ring, submission bell and completion bell of each queue in turn.
    fn ring_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let queues = self.rings.iter().zip(&self.bells);
        queues.flat_map(|(ring, bells)| {
            [ring.as_fd(), bells.submission.as_fd(), bells.completion.as_fd()]
        })
    }

    fn bare_rings(&self) -> Vec<BorrowedFd<'_>> {
        self.rings.iter().map(AsFd::as_fd).collect()
    }
}

impl Instance {
    /// Tells the fence of a disk what happened and carries out what it decides.
    pub(super) fn fenced(&mut self, disk: usize, what: impl FnOnce(&mut Fence) -> Vec<Action>) {
        let Some(actions) = self.disks.get_mut(disk).map(|disk| what(&mut disk.fence)) else {
            return;
        };
        for action in actions {
            if let Err(error) = self.carry_out(disk, action) {
                self.fail(format!("the rings of a disk cannot be made: {error}"));
            }
        }
    }

    fn carry_out(&mut self, disk: usize, action: Action) -> std::io::Result<()> {
        let Some(here) = self.disks.get_mut(disk) else {
            return Ok(());
        };
        let (server, client) = (here.server, here.client);
        match action {
            Action::MakeRings(incarnation) => here.make_rings(incarnation)?,
            Action::PlanServer(incarnation) => self.plan_server(disk, incarnation),
            Action::PlanClient(incarnation) => self.plan_client(disk, incarnation),
            Action::DetachServer => {
                self.tell_server(server, BlockCommand::Detach { export: EXPORT }, &[]);
            }
            Action::AttachServer(incarnation) => {
                let rings = std::mem::take(&mut here.rings);
                let command = BlockCommand::Attach {
                    export: EXPORT,
                    queues: rings.len() as u16,
                    incarnation,
                };
                let fds: Vec<BorrowedFd<'_>> = rings.iter().map(AsFd::as_fd).collect();
                self.tell_server(server, command, &fds);
                if let Some(here) = self.disks.get_mut(disk) {
                    here.rings = rings;
                }
            }
            Action::ReplaceClient(incarnation) => {
                let own_fault = self.posts.get(server).is_some_and(|post| post.own_fault);
                let queues = here.rings.len() as u16;
                let command = BlkCommand::RingReplaced { queues, incarnation, own_fault };
                let fds = here.bare_rings();
                if let Some(process) = self.posts.get_mut(client).and_then(|p| p.planned_mut()) {
                    // An error is a death, which the pidfd tells.
                    let _ = process.command(command, &fds);
                }
                self.watch_room(client);
            }
            Action::CondemnClient => {
                self.condemn(client, "it broke the protocol of its block ring".into());
            }
        }
        Ok(())
    }

    pub(super) fn tell_server(
        &mut self,
        post: PostIndex,
        command: BlockCommand,
        fds: &[BorrowedFd<'_>],
    ) {
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
            // An error is a death, which the pidfd tells.
            let _ = process.command(command, fds);
        }
        self.watch_room(post);
    }

    fn plan_server(&mut self, disk: usize, incarnation: Incarnation) {
        let Some(here) = self.disks.get(disk) else {
            return;
        };
        let Some(planned) = self.plan.disks.get(here.planned) else {
            return;
        };
        let Source::Image(image) = &planned.source else {
            return;
        };
        let read_only = planned.export.as_ref().is_some_and(|export| export.read_only);
        let export = ExportPlan {
            export: EXPORT,
            queues: here.queues.count,
            ring: RingShape::DEFAULT,
            incarnation,
            read_only: image.service.read_only || read_only,
            cpus: planned.cpus.clone(),
        };
        let command = BlockCommand::Plan(Box::new(BlockPlan {
            node: image.chain.plan(image.service),
            layers: image.chain.named(),
            exports: vec![export],
            delay_ms: planned.delay_ms,
            limits: here.limits,
            on_error: planned.on_error,
            jobs: here.jobs.iter().map(|job| job.plan.clone()).collect(),
        }));
        let mut fds = image.chain.fds(image.service);
        fds.extend(here.ring_fds());
        fds.extend(here.jobs.iter().flat_map(|job| job.fds(&image.chain)));
        let post = here.server;
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &fds);
        }
        self.was_planned(post);
    }

    fn plan_client(&mut self, disk: usize, incarnation: Incarnation) {
        let Some(here) = self.disks.get(disk) else {
            return;
        };
        let (Some(planned), Some(info)) = (self.plan.disks.get(here.planned), here.info) else {
            return;
        };
        let read_only = planned.export.as_ref().is_some_and(|export| export.read_only);
        let command = BlkCommand::Plan(BlkPlan {
            disk: DiskInfo { read_only: info.read_only || read_only, ..info },
            serial: planned.serial.clone(),
            queues: here.queues.plan(self.own_fault(here.client)),
            ring: RingShape::DEFAULT,
            incarnation,
            cpus: planned.cpus.clone(),
        });
        let mut fds = vec![here.inflight.as_fd()];
        fds.extend(here.ring_fds());
        let (post, device) = (here.client, here.device);
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
            BlockEvent::Detached { .. } => self.fenced(disk, |fence| fence.server_detached()),
            BlockEvent::ExportFault { .. } => self.fenced(disk, |fence| fence.client_at_fault()),
            event => self.on_graph_news(disk, post, event),
        }
    }

    /// What the guest was told a disk is stays so during the life of an instance, whatever files it
    /// consists of.
    fn on_opened(&mut self, disk: usize, post: PostIndex, info: DiskInfo) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        match here.info {
            None => {
                here.info = Some(info);
                self.fenced(disk, |fence| fence.disk_is_known());
            }
            Some(known) if is_as_told(known, info) => {}
            Some(_) => self.condemn(post, "the image is not what it was".into()),
        }
    }

    fn on_image_refused(&mut self, disk: usize, post: PostIndex, reason: String) {
        let planned = self.disks.get(disk).map(|disk| disk.planned);
        let Some(planned) = planned.and_then(|index| self.plan.disks.get(index)) else {
            return;
        };
        if self.started {
            return self.condemn(post, format!("the image cannot be opened: {reason}"));
        }
        let path = match &planned.source {
            Source::Image(image) => {
                image.chain.top().map_or_else(String::new, |top| top.path.display().to_string())
            }
            Source::Foreign(foreign) => foreign.path.display().to_string(),
        };
        let option = format!("--disk {}", planned.id);
        let refusal = refuse(option, path, reason, "check the image");
        self.conclude(Outcome::Refused(refusal));
    }
}

/// Whether a guest that was told `known` is well served by a graph that is `info`.
fn is_as_told(known: DiskInfo, info: DiskInfo) -> bool {
    (known.size, known.read_only) == (info.size, info.read_only)
        && known.logical_block.is_multiple_of(info.logical_block.max(1))
}
