//! Storage mode: foreign frontends, one after another, for ever.
//!
//! The listening socket is the supervisor's; the connection is only ever in the vhost-blk that serves
//! it, so that a frontend sees a hang-up when that dies. While nobody accepts, the kernel keeps the
//! next frontends in the socket's backlog.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bulkhead_protocol::device::BlkCommand;
use bulkhead_protocol::event::EventKind;

use super::disk::BLK;
use super::post::{Phase, Role};
use super::token::Token;
use super::{Due, Instance};

/// After a failed accept, the socket rests for this long.
const RETRY: Duration = Duration::from_millis(100);

impl Instance {
    /// The vhost-blk of a disk serves: show the socket, take the next frontend. The control socket is
    /// shown before: whoever sees an export may ask about it.
    pub(super) fn serve_export(&mut self, disk: usize) {
        if !self.posts.iter().any(|post| post.role == Role::Control && post.has_served) {
            return;
        }
        let listener = self.listener_mut(disk);
        let Some(listener) = listener else {
            return;
        };
        if let Err(error) = listener.publish() {
            let reason = format!("an export's socket cannot be shown: {error}");
            return match self.joins(disk, BLK) {
                true => self.export_cannot_serve(disk, BLK, reason),
                false => self.fail(reason),
            };
        }
        if let Some(listener) = self.listener(disk) {
            let _ = self.watch(listener, Token::Listener(disk));
        }
        self.export_serves(disk, BLK);
    }

    /// Nobody is taken from a disk's socket any more.
    pub(super) fn rest_export(&self, disk: usize) {
        if let Some(listener) = self.listener(disk) {
            let _ = self.poller.remove(listener);
        }
    }

    /// The control socket has been shown: show the exports that were ready before.
    pub(super) fn serve_exports(&mut self) {
        for disk in 0..self.disks.len() {
            let waits = self.disks.get(disk).filter(|disk| !disk.frontend);
            let post = waits.and_then(|disk| self.posts.get(disk.client()?));
            if post.is_some_and(|post| matches!(post.phase, Phase::Serving(..))) {
                self.serve_export(disk);
            }
        }
    }

    fn listener_mut(&mut self, disk: usize) -> Option<&mut crate::listener::Listener> {
        let planned = self.disks.get(disk)?.planned;
        self.plan.disks.get_mut(planned)?.export.as_mut()?.listener.as_mut()
    }

    fn listener(&self, disk: usize) -> Option<&crate::listener::Listener> {
        let planned = self.disks.get(disk)?.planned;
        self.plan.disks.get(planned)?.export.as_ref()?.listener.as_ref()
    }

    /// A frontend waits at a disk's socket.
    pub(super) fn on_frontend(&mut self, disk: usize) {
        let waits = self.disks.get(disk).filter(|disk| !disk.frontend);
        let Some(client) = waits.and_then(super::disk::Disk::client) else {
            return;
        };
        if !matches!(self.posts.get(client).map(|post| &post.phase), Some(Phase::Serving(..))) {
            return;
        }
        let Some(listener) = self.listener(disk) else {
            return;
        };
        let connection = match listener.accept() {
            Ok(Some(connection)) => connection,
            Ok(None) => return,
            Err(_) => return self.listen_later(disk),
        };
        let _ = self.poller.remove(listener);
        if let Some(process) = self.posts.get_mut(client).and_then(|post| post.planned_mut()) {
            let _ = process.command(BlkCommand::Connection, &[connection.as_fd()]);
        }
        self.watch_room(client);
        if let Some(here) = self.disks.get_mut(disk) {
            here.frontend = true;
        }
        let id = self.disk_id(disk);
        self.tell(EventKind::FrontendConnected { id });
    }

    /// The host is short of descriptors or memory: the socket would stay readable and keep us awake.
    fn listen_later(&mut self, disk: usize) {
        if let Some(listener) = self.listener(disk) {
            let _ = self.poller.remove(listener);
            self.timers.set(Instant::now() + RETRY, Due::Listen(disk));
        }
    }

    /// The host had time to recover.
    pub(super) fn listen_again(&mut self, disk: usize) {
        if let Some(listener) = self.listener(disk) {
            // If it is watched already, that is as well.
            let _ = self.watch(listener, Token::Listener(disk));
        }
    }

    /// vhost-blk has drained what its frontend left.
    pub(super) fn frontend_left(&mut self, disk: usize) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        if !std::mem::replace(&mut here.frontend, false) {
            return;
        }
        if let Some(listener) = self.listener(disk) {
            let _ = self.watch(listener, Token::Listener(disk));
        }
        let id = self.disk_id(disk);
        self.tell(EventKind::FrontendDisconnected { id });
    }

    /// The vhost-blk of a disk is dead and reaped; its frontend has seen the hang-up.
    pub(super) fn blk_lost(&mut self, disk: usize) {
        let Some(here) = self.disks.get_mut(disk) else {
            return;
        };
        let (device, had_frontend) = (here.device, std::mem::replace(&mut here.frontend, false));
        if let Some(listener) = self.listener(disk) {
            // It is watched again when a successor serves.
            let _ = self.poller.remove(listener);
        }
        if had_frontend {
            let id = self.disk_id(disk);
            self.tell(EventKind::FrontendDisconnected { id });
        }
        if let Some(device) = device {
            self.device_lost(device);
        }
    }

    fn disk_id(&self, disk: usize) -> String {
        let planned = self.disks.get(disk).and_then(|disk| self.plan.disks.get(disk.planned));
        planned.map_or_else(String::new, |planned| planned.id.clone())
    }
}
