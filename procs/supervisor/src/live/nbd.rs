//! NBD exports: the plans of their servers, and what those say.
//!
//! The listening socket is the supervisor's and is shown once its server serves. While a server is replaced,
//! the kernel keeps newcomers in the socket's backlog; the clients of the dead one see a hang-up.

use bulkhead_protocol::device::DiskInfo;
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::nbd::{NBD_RING, NbdCommand, NbdEvent, NbdPlan};

use super::post::{Phase, Role};
use super::token::PostIndex;
use super::{Instance, Outcome};
use crate::fence::Incarnation;
use crate::refusal::refuse;

impl Instance {
    /// Hands an nbd-server the listening socket and its ring.
    pub(super) fn plan_nbd(&mut self, disk: usize, consumer: usize, incarnation: Incarnation) {
        let Some(here) = self.disks.get(disk) else {
            return;
        };
        let (Some(consumer), Some(info)) = (here.consumer(consumer), here.info) else {
            return;
        };
        let planned = self.plan.disks.get(here.planned);
        let Some(export) = planned.and_then(|disk| disk.nbd(consumer.number)) else {
            return;
        };
        let Some(listener) = export.door.listener() else {
            return;
        };
        let command = NbdCommand::Plan(Box::new(NbdPlan {
            disk: DiskInfo { read_only: info.read_only || export.read_only, ..info },
            name: export.name.clone(),
            description: export.description.clone(),
            bitmap: export.bitmap.clone(),
            ring: NBD_RING,
            incarnation,
            tls: export.tls.clone(),
        }));
        let fds: Vec<_> = std::iter::once(listener).chain(consumer.ring_fds()).collect();
        let post = consumer.post;
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &fds);
        }
        self.was_planned(post);
    }

    /// The server of an export serves: show the socket, after the control socket.
    pub(super) fn serve_nbd(&mut self, disk: usize, consumer: usize) {
        if !self.posts.iter().any(|post| post.role == Role::Control && post.has_served) {
            return;
        }
        let Some(planned) = self.disks.get(disk).map(|disk| disk.planned) else {
            return;
        };
        let planned = self.plan.disks.get_mut(planned);
        match planned.and_then(|disk| disk.nbd_mut(consumer)).map(|export| export.door.publish()) {
            None => {}
            Some(Ok(())) => self.export_serves(disk, consumer),
            Some(Err(error)) if self.started => {
                let reason = format!("its socket cannot be shown: {error}");
                self.export_cannot_serve(disk, consumer, reason);
            }
            Some(Err(error)) => self.fail(format!("an export's socket cannot be shown: {error}")),
        }
    }

    /// The control socket has been shown: show the exports that were ready before.
    pub(super) fn serve_all_nbd(&mut self) {
        let serving = |post: &super::post::Post| match (post.role, &post.phase) {
            (Role::Nbd(disk, consumer), Phase::Serving(..)) => Some((disk, consumer)),
            _ => None,
        };
        let ready: Vec<_> = self.posts.iter().filter_map(serving).collect();
        for (disk, consumer) in ready {
            self.serve_nbd(disk, consumer);
        }
    }

    /// News from an nbd-server.
    pub(super) fn on_nbd(&mut self, post: PostIndex, event: NbdEvent) {
        let Some(place) = self.posts.get(post) else {
            return;
        };
        let (id, role) = (place.id.clone(), place.role);
        let Role::Nbd(disk, consumer) = role else {
            return;
        };
        match event {
            NbdEvent::Closed => self.export_is_closed(disk, consumer),
            NbdEvent::InUse { clients } => self.export_is_used(disk, consumer, clients),
            NbdEvent::Refused { reason } if self.joins(disk, consumer) => {
                self.export_cannot_serve(disk, consumer, reason);
            }
            NbdEvent::PoisonRequest => self.tell(EventKind::PoisonRequest { id }),
            NbdEvent::Refused { reason } if self.started => self.condemn(post, reason),
            NbdEvent::Refused { reason } => {
                let option = format!("--export nbd,disk={id}");
                let remedy = "check the files of the folder that tls-creds names";
                self.conclude(Outcome::Refused(refuse(option, "tls-creds", reason, remedy)));
            }
        }
    }
}
