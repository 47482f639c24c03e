//! What the supervisor orders: taken apart, begun as a task, answered when it is over.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use bulkhead_protocol::block::{
    BlockAnswer, BlockEvent, BlockOrder, DiskReport, JobPlan, LayerNumber, LayerReport,
};
use bulkhead_protocol::block_control::{InternalAction, JobAction, LONGEST_NAME};
use bulkhead_protocol::device::DiskInfo;
use bulkhead_protocol::filters::Limits;

use super::go_back::GoBack;
use super::jobs::{Start, on_error};
use super::record::layer_at;
use super::resize::Resize;
use super::snapshot::Snapshot;
use super::{Executor, ExecutorError};
use crate::disk::{Action, Disk, DiskEvent, Policy};
use crate::node::{Node, Served, Throttle};
use crate::qcow2::Layer;
use crate::remote::News;

/// Names of internal snapshots in an answer.
const MOST_NAMES: usize = 64;

/// Bytes of an answer to a query: a message has 64 KiB, and one that is longer cannot be sent at all.
const MOST_BYTES: usize = 56 << 10;

/// Bytes of an entry of an answer without its texts: more than there are.
const ENTRY: usize = 64;

impl Executor {
    pub(super) fn order(
        &mut self,
        call: u64,
        order: BlockOrder,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ExecutorError> {
        if self.graph.is_none() {
            return Err(ExecutorError::Command("an order before its plan"));
        }
        match order {
            BlockOrder::Query => {
                let report = Box::new(self.report());
                self.answer(call, BlockAnswer::Disk(report));
            }
            BlockOrder::Snapshot(plan) => self.snapshot(call, plan, fds),
            BlockOrder::Start(plan) => self.start_job(Some(call), plan, fds),
            BlockOrder::Job { job, action } => {
                let done = self.jobs.act(&job, action);
                if done.is_ok() && action == JobAction::Cancel {
                    self.let_go(&job);
                }
                self.answer(call, answered(done));
            }
            BlockOrder::Bitmap { bitmap, action } => {
                let (record, bitmaps) = (Rc::clone(&self.record), Rc::clone(&self.bitmaps));
                self.on_graph(|disk| async move {
                    // Its size is the disk's, which may not change meanwhile.
                    let _alone = record.begin_alone().await;
                    let answer = answered(bitmaps.act(&disk, bitmap, action).await);
                    record.tell(BlockEvent::Answer { call, answer });
                });
            }
            BlockOrder::Throttle(limits) => {
                self.throttle(limits);
                self.answer(call, BlockAnswer::Done);
            }
            BlockOrder::Resize { size } => self.resize(call, size),
            BlockOrder::Resume => {
                self.on_graph(|disk| async move { disk.resume() });
                self.answer(call, BlockAnswer::Done);
            }
            BlockOrder::InternalSnapshot { snapshot, action: InternalAction::Apply, .. } => {
                self.go_back(call, snapshot);
            }
            BlockOrder::InternalSnapshot { snapshot, action, time } => {
                let record = Rc::clone(&self.record);
                self.on_graph(|disk| async move {
                    // A change of the size has it drained as well, and changes the same tables.
                    let _alone = record.begin_alone().await;
                    // Clusters that lanes write in place become the snapshot's too.
                    let drained = disk.drain().await;
                    let create = action == InternalAction::Create;
                    let done = internal_snapshot(&disk, &snapshot, create, time).await;
                    drop(drained);
                    record.tell(BlockEvent::Answer { call, answer: answered(done) });
                });
            }
        }
        Ok(())
    }

    fn answer(&mut self, call: u64, answer: BlockAnswer) {
        self.record.tell(BlockEvent::Answer { call, answer });
    }

    /// The supervisor has written a change down, or does not want it.
    pub(super) fn changed(
        &mut self,
        change: u64,
        answer: Result<(), String>,
    ) -> Result<(), ExecutorError> {
        match self.record.answered(change, answer) {
            true => Ok(()),
            false => Err(ExecutorError::Command("an answer to what was not asked")),
        }
    }

    /// Begins a task on the disk.
    pub(super) fn on_graph<T: Future<Output = ()> + 'static>(
        &mut self,
        task: impl FnOnce(Rc<Disk<Served>>) -> T,
    ) {
        if let Some(graph) = &mut self.graph {
            let disk = Rc::clone(graph.disk());
            graph.spawn(task(disk));
        }
    }

    fn snapshot(
        &mut self,
        call: u64,
        plan: bulkhead_protocol::block::TargetPlan,
        fds: Vec<OwnedFd>,
    ) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        let (disk, desk) = (Rc::clone(graph.disk()), Rc::clone(graph.desk()));
        let (record, DiskInfo { discard, logical_block: block, .. }) =
            (Rc::clone(&self.record), graph.info());
        let told = Rc::clone(&record);
        let snapshot = Snapshot { disk, desk, record, discard, block, call, plan };
        graph.spawn(async move {
            let answer = snapshot.make(fds).await;
            told.tell(BlockEvent::Answer { call, answer });
        });
    }

    fn resize(&mut self, call: u64, size: u64) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        let resize = Resize {
            disk: Rc::clone(graph.disk()),
            record: Rc::clone(&self.record),
            jobs: Rc::clone(&self.jobs),
            bitmaps: Rc::clone(&self.bitmaps),
            lanes: Arc::clone(&self.size),
            block: graph.info().logical_block.max(512),
        };
        let record = Rc::clone(&self.record);
        graph.spawn(async move {
            let answer = answered(resize.make(size).await);
            record.tell(BlockEvent::Answer { call, answer });
        });
    }

    /// Lets the disk become what it was; see [`GoBack`].
    pub(super) fn go_back(&mut self, call: u64, snapshot: String) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        let go_back = GoBack {
            disk: Rc::clone(graph.disk()),
            record: Rc::clone(&self.record),
            jobs: Rc::clone(&self.jobs),
            bitmaps: Rc::clone(&self.bitmaps),
            call,
        };
        let record = Rc::clone(&self.record);
        graph.spawn(async move {
            let answer = answered(go_back.to(&snapshot).await);
            record.tell(BlockEvent::Answer { call, answer });
        });
    }

    /// Starts a job; `call` is none for one that a predecessor had.
    pub(super) fn start_job(&mut self, call: Option<u64>, plan: JobPlan, fds: Vec<OwnedFd>) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        let start = Start {
            disk: Rc::clone(graph.disk()),
            desk: Rc::clone(graph.desk()),
            record: Rc::clone(&self.record),
            jobs: Rc::clone(&self.jobs),
            bitmaps: Rc::clone(&self.bitmaps),
            discard: graph.info().discard,
            block: graph.info().logical_block,
            call,
            plan,
        };
        graph.spawn(start.run(fds));
    }

    /// A socket for a layer on a server. A layer that has left the disk meanwhile needs none.
    pub(super) fn socket(&mut self, layer: LayerNumber, fds: Vec<OwnedFd>) {
        let Some(graph) = &mut self.graph else {
            return;
        };
        let remotes = graph.desk().remotes();
        let remote = remotes.iter().find(|remote| remote.layer() == layer);
        if let (Some(remote), Some(socket)) = (remote, fds.into_iter().next()) {
            remote.take(socket);
        }
    }

    /// Limits of the disk. Requests that wait already go by the new ones.
    pub(super) fn throttle(&mut self, limits: Limits) {
        let Some(graph) = &self.graph else {
            return;
        };
        let mut nodes = graph.disk().nodes();
        let throttled = nodes.iter().position(|node| matches!(**node, Node::Throttle(_)));
        match throttled.and_then(|at| nodes.get(at)) {
            Some(node) => {
                if let Node::Throttle(throttle) = &**node {
                    throttle.set(limits);
                }
            }
            None if limits == Limits::default() => {}
            None => {
                nodes.push(Rc::new(Node::Throttle(Rc::new(Throttle::new(limits)))));
                graph.disk().set_nodes(nodes);
            }
        }
    }

    /// What is done about errors of requests.
    pub(super) fn set_policy(&mut self, wanted: bulkhead_protocol::spec::OnError) {
        if let Some(graph) = &self.graph {
            let (reads, writes) = (on_error(wanted.read), on_error(wanted.write));
            graph.disk().set_policy(Policy { reads, writes });
        }
    }

    fn report(&self) -> DiskReport {
        within_a_message(DiskReport {
            size: self.graph.as_ref().map_or(0, |graph| graph.disk().size()),
            layers: self.layer_reports(),
            bitmaps: self.bitmap_states(),
            snapshots: self.internal_snapshots(),
            jobs: self.jobs.reports(),
        })
    }

    fn bitmap_states(&self) -> Vec<bulkhead_protocol::block_control::BitmapState> {
        let disk = self.graph.as_ref().map(|graph| graph.disk());
        disk.map_or_else(Vec::new, |disk| self.bitmaps.states(disk))
    }

    fn internal_snapshots(&self) -> Vec<String> {
        match self.graph.as_ref().map(|graph| graph.disk().top()) {
            Some(Layer::Qcow2(image)) => {
                // A message has limits, and an image nearly none.
                let snapshots = image.snapshots();
                let names = snapshots.into_iter().map(|snapshot| snapshot.name);
                let short = names.filter(|name| name.len() <= LONGEST_NAME);
                short.take(MOST_NAMES).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is known of each layer.
    pub(super) fn layer_reports(&self) -> Vec<LayerReport> {
        let Some(graph) = &self.graph else {
            return Vec::new();
        };
        let top = graph.disk().top();
        let named = self.record.layers().into_iter().enumerate();
        let report = named.filter_map(|(depth, named)| {
            let layer = layer_at(&top, depth)?;
            let backing_name = match &layer {
                Layer::Qcow2(image) => image.header().backing,
                _ => None,
            };
            Some(LayerReport { layer: named.layer, size: layer.size(), backing_name })
        });
        report.collect()
    }

    /// What disk and jobs have to tell, in their own words.
    pub(super) fn gather(&mut self) {
        let remotes = self.graph.as_ref().map(|graph| graph.desk().remotes()).unwrap_or_default();
        for remote in remotes {
            let layer = remote.layer();
            for news in remote.news() {
                self.record.tell(match news {
                    News::Wanted => BlockEvent::SocketWanted { layer },
                    News::Connected(export) => BlockEvent::Connected { layer, export },
                    News::Lost(reason) => BlockEvent::Disconnected { layer, reason },
                });
            }
        }
        self.jobs.tell(&self.record);
        let told = self.graph.as_ref().map(|graph| graph.disk().events()).unwrap_or_default();
        for event in told {
            let (read, failure, action) = match event {
                DiskEvent::Failed { read, failure, action } => (read, failure, action),
                DiskEvent::Resumed => {
                    self.record.tell(BlockEvent::TroubleOver);
                    continue;
                }
                DiskEvent::Differs { at } => {
                    if self.differences.may_tell() {
                        self.record.tell(BlockEvent::Differs { at });
                    }
                    continue;
                }
            };
            let paused = matches!(action, Action::Stop | Action::WaitForSpace);
            // A guest may fail as often as it likes; the supervisor hears of some.
            let complaints = if paused { &self.stops } else { &self.complaints };
            if !complaints.may_tell() {
                continue;
            }
            let operation = if read { "read" } else { "write" }.to_owned();
            let errno = failure.errno() as i32;
            self.record.tell(BlockEvent::Trouble { job: None, operation, errno, paused });
        }
        self.events.extend(self.record.events());
    }
}

/// Leaves out what a message has no room for: an image's names first, which whoever made it has chosen.
fn within_a_message(report: DiskReport) -> DiskReport {
    let DiskReport { size, mut layers, mut bitmaps, mut snapshots, mut jobs } = report;
    let mut left = MOST_BYTES;
    let mut fits = |text: usize| {
        let rest = left.checked_sub(ENTRY + text);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    jobs.retain(|job| {
        fits(job.job.len() + job.kind.len() + job.error.as_ref().map_or(0, String::len))
    });
    layers.retain(|layer| fits(layer.backing_name.as_ref().map_or(0, String::len)));
    bitmaps.retain(|bitmap| fits(bitmap.name.len()));
    snapshots.retain(|name| fits(name.len()));
    DiskReport { size, layers, bitmaps, snapshots, jobs }
}

fn answered(done: Result<(), String>) -> BlockAnswer {
    match done {
        Ok(()) => BlockAnswer::Done,
        Err(reason) => BlockAnswer::Refused(reason),
    }
}

/// Makes or deletes a snapshot inside the top layer. The image keeps others out meanwhile.
async fn internal_snapshot(
    disk: &Disk<Served>,
    name: &str,
    create: bool,
    time: u64,
) -> Result<(), String> {
    let Layer::Qcow2(image) = disk.top() else {
        return Err("its top layer is no qcow2 image".to_owned());
    };
    let exists = image.snapshots().iter().any(|other| other.name == name);
    let done = match create {
        true if exists => return Err(format!("there is a snapshot '{name}' already")),
        true => image.snapshot_create(name, u32::try_from(time).unwrap_or(u32::MAX), 0).await,
        false => image.snapshot_delete(name).await,
    };
    done.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use bulkhead_protocol::block_control::BitmapState;

    use super::*;

    #[test]
    fn an_answer_to_a_query_fits_a_message_whatever_names_images_have() {
        let layer = LayerReport { layer: 1, size: 1, backing_name: Some("b".repeat(1023)) };
        let name = "n".repeat(LONGEST_NAME);
        let (granularity, dirty, recording, persistent) = (65536, 0, true, true);
        let bitmap = BitmapState { name: name.clone(), granularity, dirty, recording, persistent };
        let report = within_a_message(DiskReport {
            size: 1,
            layers: vec![layer; 33],
            bitmaps: vec![bitmap; 128],
            snapshots: vec![name; MOST_NAMES],
            jobs: Vec::new(),
        });
        let texts = report.bitmaps.len() * LONGEST_NAME + report.snapshots.len() * LONGEST_NAME;
        assert_eq!(report.layers.len(), 33);
        assert!(texts + 33 * 1023 < MOST_BYTES && !report.bitmaps.is_empty());
    }
}
