//! A disk goes over to another chain: checked, recorded, and only then allowed.

use bulkhead_protocol::block::{BlockCommand, BlockEvent, LayerNumber, LayerReport};
use bulkhead_protocol::event::EventKind;

use super::order::Purpose;
use crate::images::chain::Layer;
use crate::images::fresh::plain;
use crate::live::Instance;
use crate::live::token::PostIndex;

impl Instance {
    /// News from a block-layer about its graph and its jobs.
    pub(in crate::live) fn on_graph_news(
        &mut self,
        disk: usize,
        post: PostIndex,
        event: BlockEvent,
    ) {
        match event {
            BlockEvent::Answer { call, answer } => self.on_block_answer(disk, post, call, answer),
            BlockEvent::Headers(headers) => self.on_headers(disk, &headers),
            BlockEvent::Switching { change, call: Some(call), chain, .. } => {
                match self.purpose_of(disk, call) {
                    Some(Purpose::Snapshot(snapshot)) => {
                        let snapshot = *snapshot;
                        self.member_ready(snapshot, disk, change, &chain);
                    }
                    Some(Purpose::GoBack { .. }) => {
                        self.goes_back(disk, post, call, change, &chain);
                    }
                    _ => self.abandon(disk, change, "the transaction is over"),
                }
            }
            BlockEvent::Switching { change, job, chain, .. } => {
                self.job_goes_over(disk, post, change, job.as_deref(), &chain);
            }
            BlockEvent::Job(report) => self.on_job(disk, post, report),
            BlockEvent::JobEnded { report, end } => self.on_job_ended(disk, post, report, end),
            BlockEvent::Trouble { job, operation, errno, paused } => {
                let id = self.disk_name(disk);
                self.tell(EventKind::BlockError { id, job, operation, errno, paused });
            }
            BlockEvent::TroubleOver => {
                let id = self.disk_name(disk);
                self.tell(EventKind::BlockErrorOver { id });
            }
            BlockEvent::Differs { at } => {
                let id = self.disk_name(disk);
                self.tell(EventKind::VerifyMismatch { id, at });
            }
            // Told elsewhere.
            BlockEvent::Opened(_)
            | BlockEvent::Refused { .. }
            | BlockEvent::Away { .. }
            | BlockEvent::Detached { .. }
            | BlockEvent::SocketWanted { .. }
            | BlockEvent::Connected { .. }
            | BlockEvent::Disconnected { .. }
            | BlockEvent::ExportFault { .. } => {}
        }
    }

    fn job_goes_over(
        &mut self,
        disk: usize,
        post: PostIndex,
        change: u64,
        job: Option<&str>,
        chain: &[LayerNumber],
    ) {
        let target = job.and_then(|job| self.job_switches(disk, job, chain));
        let Some(target) = target else {
            return self.condemn(post, "it goes over to another chain for no reason".into());
        };
        if !self.record_chain(disk, chain, target) {
            return self.condemn(post, "it goes over to files that it was not given".into());
        }
        self.tell_disk(disk, BlockCommand::Switched { change });
    }

    /// From now on the disk consists of these. What leaves it is closed, and free for others.
    pub(super) fn record_chain(
        &mut self,
        disk: usize,
        chain: &[LayerNumber],
        more: Option<Layer>,
    ) -> bool {
        let changed = self.image_mut(disk).map(|image| image.chain.change(chain, more));
        let Some(Ok(left)) = changed else {
            return false;
        };
        drop(left);
        self.tell_of_chain(disk);
        true
    }

    /// From now on the disk has one layer more.
    pub(super) fn record_top(&mut self, disk: usize, layer: Layer) {
        if let Some(image) = self.image_mut(disk) {
            image.chain.push(layer);
        }
        self.tell_of_chain(disk);
    }

    fn tell_of_chain(&mut self, disk: usize) {
        let layers = self.image(disk).map(|image| image.chain.layers()).unwrap_or_default();
        let layers = layers.iter().map(|layer| layer.path.clone()).collect();
        self.plan.update_record();
        let id = self.disk_name(disk);
        self.tell(EventKind::GraphChanged { id, layers });
    }

    /// What the headers of a disk say is below each layer, against what was given. Compared as text:
    /// a name in a header is never looked up.
    fn on_headers(&mut self, disk: usize, headers: &[LayerReport]) {
        let layers = self.image(disk).map(|image| image.chain.layers()).unwrap_or_default();
        let mut mismatches = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            let Some(header) = headers.iter().find(|header| header.layer == layer.number) else {
                continue;
            };
            let path = self.folder.join(&layer.path);
            let named = header.backing_name.clone().unwrap_or_default();
            let is_uri = named.contains("://");
            let resolved = match (named.is_empty(), path.parent()) {
                (true, _) => None,
                (false, _) if is_uri => Some(named.clone().into()),
                (false, None) => Some(plain(named.as_ref())),
                (false, Some(folder)) => Some(plain(&folder.join(&named))),
            };
            let below = layers.get(at + 1);
            let given = below.map(|below| match below.remote() {
                Some(_) => below.path.clone(),
                None => plain(&self.folder.join(&below.path)),
            });
            if resolved != given {
                let given = below.map(|below| below.path.display().to_string());
                mismatches.push((layer.path.clone(), named, given.unwrap_or_default()));
            }
        }
        for (path, named, given) in mismatches {
            let id = self.disk_name(disk);
            self.tell(EventKind::BackingMismatch { id, path, named, given });
        }
    }
}
