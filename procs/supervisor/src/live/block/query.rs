//! What there is: the record, and what each block-layer says of its disk now.

use bulkhead_protocol::block::{BlockOrder, DiskReport};
use bulkhead_protocol::block_control::{BlockResponse, DiskState, JobState, LayerState};

use super::order::{Purpose, Waiting};
use super::snapshot::Snapshot;
use crate::images::chain::allocated;
use crate::live::Instance;

/// A query that waits for block-layers.
#[derive(Debug)]
pub struct Query {
    number: u64,
    call: u64,
    jobs_only: bool,
    /// For each disk: asked and not answered, or what it said.
    left: usize,
    reports: Vec<Option<DiskReport>>,
}

impl Instance {
    /// Asks every block-layer that serves.
    pub(super) fn query(&mut self, call: u64, jobs_only: bool) {
        let number = self.number();
        let disks: Vec<usize> =
            (0..self.disks.len()).filter(|disk| self.takes_orders(*disk)).collect();
        let reports = vec![None; self.disks.len()];
        self.queries.push(Query { number, call, jobs_only, left: disks.len(), reports });
        for disk in disks {
            self.order_block(disk, BlockOrder::Query, &[], Purpose::Query(number));
        }
        self.finish_query(number);
    }

    /// One of them has answered, or died.
    pub(super) fn query_answered(&mut self, number: u64, disk: usize, report: Option<DiskReport>) {
        if let Some(query) = self.queries.iter_mut().find(|query| query.number == number) {
            query.left = query.left.saturating_sub(1);
            if let Some(place) = query.reports.get_mut(disk) {
                *place = report;
            }
        }
        self.finish_query(number);
    }

    fn finish_query(&mut self, number: u64) {
        let is_over = |query: &Query| query.number == number && query.left == 0;
        let Some(at) = self.queries.iter().position(is_over) else {
            return;
        };
        let Query { call, jobs_only, reports, .. } = self.queries.remove(at);
        let disks = reports.into_iter().enumerate();
        let states = disks.filter_map(|(disk, report)| self.disk_state(disk, report)).collect();
        let response = match jobs_only {
            false => BlockResponse::Disks(states),
            true => BlockResponse::Jobs(states.into_iter().flat_map(|disk| disk.jobs).collect()),
        };
        self.answer_block(call, response);
    }

    fn disk_state(&self, disk: usize, report: Option<DiskReport>) -> Option<DiskState> {
        let (here, planned, image) =
            (self.disks.get(disk)?, self.planned(disk)?, self.image(disk)?);
        let said = |number| {
            report
                .as_ref()
                .and_then(|report| report.layers.iter().find(|layer| layer.layer == number))
        };
        let layers = image.chain.layers().iter().map(|layer| LayerState {
            path: layer.path.clone(),
            format: layer.format,
            size: said(layer.number).map_or(0, |layer| layer.size),
            allocated: layer.files().map(|file| allocated(&file.file)).sum(),
            backing_name: said(layer.number).and_then(|layer| layer.backing_name.clone()),
        });
        let layers = layers.collect();
        let id = planned.id.clone();
        let fresh = |job: &super::job::Job| {
            let reports = report.iter().flat_map(|report| &report.jobs);
            let said = reports.into_iter().find(|said| said.job == job.plan.job);
            said.unwrap_or(&job.report).clone()
        };
        let running = here.jobs.iter().map(fresh).chain(here.concluded.iter().cloned());
        let jobs = running.map(|report| JobState { disk: id.clone(), report }).collect();
        let (bitmaps, snapshots) = match &report {
            Some(report) => (report.bitmaps.clone(), report.snapshots.clone()),
            None => Default::default(),
        };
        let size = report.as_ref().map(|report| report.size);
        let size = size.or(here.info.map(|info| info.size)).unwrap_or(0);
        let serving = report.is_some();
        Some(DiskState { disk: id, size, serving, layers, bitmaps, snapshots, jobs })
    }

    /// Control's clients that have gone ask for nothing any more. What they ordered goes on, but is not
    /// answered: a new control counts its calls from the beginning, and another client would hear it.
    pub(in crate::live) fn forget_callers(&mut self) {
        self.queries.clear();
        self.orders.iter_mut().for_each(Waiting::forget_caller);
        self.snapshots.iter_mut().for_each(Snapshot::forget_caller);
        self.forget_export_callers();
        self.forget_resizers();
    }
}
