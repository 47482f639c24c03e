//! Sockets for block-layers whose layers lie on servers.
//!
//! ```text
//! SocketWanted ─► (pause) ─► connection begun ─► Socket + descriptor
//!                    ▲                │ refused at once
//!                    └────────────────┘
//! ```
//!
//! A block-layer asks as often as it loses a connection; the pauses between two sockets grow as long as no
//! connection lasts ([`Remote::pause`]). What was asked for by a process that is dead is forgotten with it.
//!
//! A disk with a format cannot be opened without its server. A successor that finds it away says so and is
//! retired; the next one comes after such a pause as well ([`Instance::on_server_away`]).

use std::os::fd::AsFd;
use std::time::Instant;

use bulkhead_protocol::block::{BlockCommand, JobKind, KnownExport, LayerNumber};
use bulkhead_protocol::event::EventKind;

use super::token::PostIndex;
use super::{Due, Instance};
use crate::images::chain::Layer;
use crate::images::remote::Remote;
use crate::plan::Source;

impl Instance {
    /// A block-layer wants a socket.
    pub(super) fn on_socket_wanted(&mut self, disk: usize, post: PostIndex, layer: LayerNumber) {
        let Some(remote) = self.remote_mut(disk, layer) else {
            // It has left the disk, or it never was in it: nothing comes.
            return;
        };
        if remote.wanted >= remote.most_wanted() {
            return self.condemn(post, "it wants more sockets than it may have".into());
        }
        remote.wanted += 1;
        self.dial_later(disk, post, layer);
    }

    fn dial_later(&mut self, disk: usize, post: PostIndex, layer: LayerNumber) {
        let pause = self.remote_mut(disk, layer).map(|remote| remote.pause());
        let ticket = self.posts.get(post).and_then(|post| post.process());
        if let (Some(pause), Some(ticket)) = (pause, ticket.map(|process| process.ticket)) {
            self.timers.set(Instant::now() + pause, Due::Dial { disk, layer, ticket });
        }
    }

    /// It has waited long enough.
    pub(super) fn dial_is_due(&mut self, disk: usize, layer: LayerNumber, ticket: u64) {
        let Some(post) = self.disks.get(disk).map(|disk| disk.server) else {
            return;
        };
        if !self.posts.get(post).is_some_and(|post| post.holds(ticket)) {
            return;
        }
        let Some(remote) = self.remote_mut(disk, layer) else {
            return;
        };
        match remote.dial() {
            Ok(socket) => {
                remote.wanted = remote.wanted.saturating_sub(1);
                let command = BlockCommand::Socket { layer };
                let _ = self.tell_server(post, command, &[socket.as_fd()]);
            }
            Err(_) => self.dial_later(disk, post, layer),
        }
    }

    /// A server has agreed on a connection.
    pub(super) fn on_connected(&mut self, disk: usize, layer: LayerNumber, export: KnownExport) {
        let jobs = self.disks.get_mut(disk).map(|disk| &mut disk.jobs);
        for job in jobs.into_iter().flatten() {
            if let JobKind::Mirror { target, .. } | JobKind::Backup { target, .. } =
                &mut job.plan.kind
                && let Some(plan) = target.remote.as_mut().filter(|plan| plan.layer == layer)
            {
                plan.known = Some(export);
            }
        }
        let Some(remote) = self.remote_mut(disk, layer) else {
            return;
        };
        if remote.connected(export, Instant::now()) {
            let (id, path) = (self.disk_name(disk), self.layer_path(disk, layer));
            self.tell(EventKind::ServerBack { id, path });
        }
    }

    /// A layer has no connection any more.
    pub(super) fn on_disconnected(&mut self, disk: usize, layer: LayerNumber, reason: String) {
        let Some(remote) = self.remote_mut(disk, layer) else {
            return;
        };
        remote.disconnected(Instant::now());
        let (id, path) = (self.disk_name(disk), self.layer_path(disk, layer));
        self.tell(EventKind::ServerLost { id, path, reason });
    }

    /// A successor cannot open the disk without its server. Nobody is to blame: another one tries later, again
    /// and again, and meanwhile the disk's users wait as for any successor.
    pub(super) fn on_server_away(
        &mut self,
        disk: usize,
        post: PostIndex,
        layer: LayerNumber,
        reason: String,
    ) {
        if !self.started {
            return self.on_image_refused(disk, post, reason);
        }
        let has_graph = self.posts.get(post).is_some_and(|post| !post.is_planned());
        let Some(remote) = self.remote_mut(disk, layer).filter(|_| !has_graph) else {
            return self.condemn(post, "it waits for a server that it has not".into());
        };
        let pause = remote.pause();
        if remote.disconnected(Instant::now()) {
            let (id, path) = (self.disk_name(disk), self.layer_path(disk, layer));
            self.tell(EventKind::ServerLost { id, path, reason: reason.clone() });
        }
        self.retire(post, reason, pause);
    }

    /// Sees that every layer on a server has a socket for the plan of its disk's next block-layer.
    pub(super) fn prepare_sockets(&mut self, disk: usize) -> std::io::Result<()> {
        self.all_remotes(disk).try_for_each(Remote::prepare)
    }

    /// The plan was sent.
    pub(super) fn hand_over_sockets(&mut self, disk: usize) {
        self.all_remotes(disk).for_each(Remote::hand_over);
    }

    fn all_remotes(&mut self, disk: usize) -> impl Iterator<Item = &mut Remote> {
        self.all_layers(disk).filter_map(Layer::remote_mut)
    }

    /// Connections that the disk's block-layer may have.
    pub(super) fn connections(&mut self, disk: usize) -> u16 {
        let most = self.all_remotes(disk).map(|remote| remote.most_wanted());
        most.fold(0, u16::saturating_add)
    }

    fn remote_mut(&mut self, disk: usize, number: LayerNumber) -> Option<&mut Remote> {
        self.all_layers(disk).find(|layer| layer.number == number)?.remote_mut()
    }

    fn layer_path(&mut self, disk: usize, number: LayerNumber) -> std::path::PathBuf {
        let layer = self.all_layers(disk).find(|layer| layer.number == number);
        layer.map(|layer| layer.path.clone()).unwrap_or_default()
    }

    /// The layers of a disk, and those that its jobs write.
    fn all_layers(&mut self, disk: usize) -> impl Iterator<Item = &mut Layer> {
        let here = self.disks.get_mut(disk);
        let planned = here.as_ref().map(|disk| disk.planned);
        let planned = planned.and_then(|planned| self.plan.disks.get_mut(planned));
        let chain = planned.and_then(|planned| match &mut planned.source {
            Source::Image(image) => Some(image.chain.layers_mut()),
            Source::Foreign(_) => None,
        });
        let jobs = here.into_iter().flat_map(|disk| &mut disk.jobs);
        chain.into_iter().flatten().chain(jobs.filter_map(|job| job.target.as_mut()))
    }
}
