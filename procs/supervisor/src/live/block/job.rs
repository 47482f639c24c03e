//! Jobs: their record, from which a successor of a block-layer starts again what can start again.
//!
//! ```text
//! Starting ──answer──▶ running ──Switching──▶ switched ──JobEnded──▶ over
//!     │ refused            │ its block-layer dies                      (kept in the list if so wished)
//!     ▼                    ├─ stream, commit, mirror: again from its beginning, told by an event
//!  files removed           ├─ backup, mirror of new writes only: failed, told by an event
//!                          └─ switched: it was over
//! ```
//!
//! A backup cannot start again: the moment that it copies is gone.

mod start;

use std::os::fd::BorrowedFd;

use bulkhead_protocol::block::{JobEnd, JobKind, JobPlan, JobReport, JobStatus, LayerNumber};
use bulkhead_protocol::block_control::{BlockResponse, Extent, JobAction};
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::session::Refusal;

use super::lineage;
use crate::images::chain::{Chain, Layer};
use crate::images::fresh::Fresh;
use crate::live::Instance;
use crate::live::token::PostIndex;
use crate::refusal::refuse;

/// A job of a disk.
#[derive(Debug)]
pub struct Job {
    /// As a block-layer gets it.
    pub plan: JobPlan,
    /// The file it copies into, until the disk goes over to that.
    pub target: Option<Layer>,
    /// As it was last told.
    pub report: JobReport,
    keep: bool,
    /// Until its block-layer has taken it.
    fresh: Option<Fresh>,
    runs: bool,
    /// The disk went over to what it was for.
    switched: bool,
    /// Its block-layer was told to end it, and has agreed.
    cancelled: bool,
}

impl Job {
    /// The name that users know it by.
    pub fn name(&self) -> &str {
        &self.plan.job
    }

    /// Its descriptors, in the order of its plan.
    pub fn fds<'a>(&'a self, chain: &'a Chain) -> Vec<BorrowedFd<'a>> {
        match &self.plan.kind {
            JobKind::Stream { .. } => Vec::new(),
            JobKind::Commit { base, above, .. } => {
                let find = |number| chain.layers().iter().find(move |layer| layer.number == number);
                let base = find(*base).into_iter().flat_map(Layer::written_fds);
                let above = above.and_then(find).and_then(Layer::fd);
                base.chain(above).collect()
            }
            JobKind::Mirror { .. } | JobKind::Backup { .. } => {
                self.target.iter().flat_map(Layer::written_fds).collect()
            }
        }
    }

    fn is_changing_the_chain(&self) -> bool {
        !matches!(self.plan.kind, JobKind::Backup { .. })
    }

    /// How it has ended if its block-layer is dead; none: a successor begins it again.
    fn end_at_death(&self) -> Option<JobEnd> {
        let starts_again = match self.plan.kind {
            JobKind::Stream { .. } | JobKind::Commit { .. } => true,
            JobKind::Mirror { sync, .. } => sync != Extent::None,
            JobKind::Backup { .. } => false,
        };
        match (self.switched, self.cancelled, starts_again) {
            (true, ..) => Some(JobEnd::Completed),
            (_, true, _) => Some(JobEnd::Cancelled),
            (_, _, true) => None,
            (_, _, false) => {
                Some(JobEnd::Failed("its block layer died, and it cannot start again".into()))
            }
        }
    }
}

impl Instance {
    /// A layer that a job wrote is not written any more.
    fn only_read(&mut self, disk: usize, number: LayerNumber) {
        if let Some(image) = self.image_mut(disk)
            && image.chain.top().is_some_and(|top| top.number != number)
            && let Some(layer) = image.chain.layer_mut(number)
            // If it cannot be opened for reading it stays open for writing, and locked.
            && let Ok(readers) = layer.readers()
        {
            layer.only_read(readers);
        }
    }

    /// Only one at a time may change what a disk consists of.
    pub(super) fn refuse_busy(&self, option: &str, disk: usize) -> Result<(), Refusal> {
        // Its gate stays closed for the transaction, but a job passes no gate.
        if self.is_being_snapshotted(disk) {
            let (id, reason) = (self.disk_name(disk), "a snapshot of it is being made");
            return Err(refuse(option, id, reason, "wait until it is made"));
        }
        if self.is_growing(disk) {
            let (id, reason) = (self.disk_name(disk), "it is being resized");
            return Err(refuse(option, id, reason, "wait until that is done"));
        }
        if self.is_going_back(disk) {
            let (id, reason) = (self.disk_name(disk), "it goes back to an internal snapshot");
            return Err(refuse(option, id, reason, "wait until that is done"));
        }
        let jobs = self.disks.get(disk).map_or(&[][..], |disk| &disk.jobs);
        match jobs.iter().find(|job| job.is_changing_the_chain()) {
            Some(job) => {
                let reason = format!("job {} works on the disk's chain", job.name());
                Err(refuse(option, job.name(), reason, "wait until it has ended, or cancel it"))
            }
            None => Ok(()),
        }
    }

    /// A block-layer has taken a job.
    pub(super) fn job_runs(&mut self, call: u64, disk: usize, name: String) {
        if let Some(job) = self.job_mut(disk, &name) {
            job.runs = true;
            if let Some(fresh) = job.fresh.take() {
                fresh.keep();
            }
            let id = self.disk_name(disk);
            self.tell(EventKind::JobStarted { id, job: name.clone() });
        }
        self.answer_block(call, BlockResponse::Started(name));
    }

    /// It has not. What was made for it goes away.
    pub(super) fn job_refused(&mut self, call: u64, disk: usize, name: &str, reason: &str) {
        self.drop_job(disk, name);
        let remedy = "see 'bulkhead block query'";
        let refusal = refuse("job", name, reason, remedy);
        self.answer_block(call, BlockResponse::Refused(refusal));
    }

    /// Takes a job out of the record. Its files go with it; a base that was written is only read again.
    fn drop_job(&mut self, disk: usize, name: &str) -> Option<Job> {
        let here = self.disks.get_mut(disk)?;
        let at = here.jobs.iter().position(|job| job.name() == name)?;
        let job = here.jobs.remove(at);
        self.close_base(disk, &job.plan.kind);
        Some(job)
    }

    /// What a commit wrote, if it is still below the top, is only read again.
    fn close_base(&mut self, disk: usize, kind: &JobKind) {
        if let JobKind::Commit { base, above, .. } = *kind {
            self.only_read(disk, base);
            above.into_iter().for_each(|above| self.only_read(disk, above));
        }
    }

    fn job_mut(&mut self, disk: usize, name: &str) -> Option<&mut Job> {
        self.disks.get_mut(disk)?.jobs.iter_mut().find(|job| job.name() == name)
    }

    pub(super) fn disk_of_job(&self, name: &str) -> Option<usize> {
        self.disks.iter().position(|disk| disk.jobs.iter().any(|job| job.name() == name))
    }

    fn kept_job(&self, name: &str) -> Option<usize> {
        self.disks.iter().position(|disk| disk.concluded.iter().any(|job| job.job == name))
    }

    pub(in crate::live) fn disk_name(&self, disk: usize) -> String {
        self.planned(disk).map(|disk| disk.id.clone()).unwrap_or_default()
    }

    pub(super) fn no_such_job(&self, job: &str) -> Refusal {
        match self.kept_job(job) {
            Some(_) => refuse("JOB", job, "the job has ended", "dismiss it"),
            None => refuse("JOB", job, "there is no such job", "see 'bulkhead block jobs'"),
        }
    }

    pub(super) fn dismiss_job(&mut self, job: &str) -> Result<(), Refusal> {
        if let Some(running) = self.disk_of_job(job).and_then(|disk| self.job_mut(disk, job)) {
            running.keep = false;
            return Ok(());
        }
        let Some(disk) = self.kept_job(job) else {
            return Err(self.no_such_job(job));
        };
        if let Some(here) = self.disks.get_mut(disk) {
            here.concluded.retain(|kept| kept.job != job);
        }
        Ok(())
    }

    /// What was done about a job holds for a successor's as well.
    pub(super) fn note_action(&mut self, disk: usize, name: &str, action: JobAction) {
        let Some(job) = self.job_mut(disk, name) else {
            return;
        };
        match action {
            JobAction::Pause => job.plan.paused = true,
            JobAction::Resume => job.plan.paused = false,
            JobAction::SetSpeed(speed) => job.plan.speed = speed,
            JobAction::Cancel => job.cancelled = true,
            JobAction::Complete | JobAction::Dismiss => {}
        }
    }

    /// A job has changed its state.
    pub(in crate::live) fn on_job(&mut self, disk: usize, post: PostIndex, report: JobReport) {
        let (name, status) = (report.job.clone(), report.status);
        let Some(job) = self.job_mut(disk, &name) else {
            return self.condemn(post, "it tells of a job that it has not".into());
        };
        let before = std::mem::replace(&mut job.report, report).status;
        if before == status {
            return;
        }
        let (id, job) = (self.disk_name(disk), name);
        self.tell(EventKind::JobStatusChanged { id: id.clone(), job: job.clone(), status });
        if status == JobStatus::Ready && before != JobStatus::Standby {
            self.tell(EventKind::JobReady { id, job });
        }
    }

    /// A job has ended.
    pub(in crate::live) fn on_job_ended(
        &mut self,
        disk: usize,
        post: PostIndex,
        report: JobReport,
        end: JobEnd,
    ) {
        let Some(mut job) = self.drop_job(disk, &report.job) else {
            return self.condemn(post, "it tells of a job that it has not".into());
        };
        job.report = report;
        self.conclude_job(disk, job, end);
    }

    fn conclude_job(&mut self, disk: usize, job: Job, end: JobEnd) {
        let id = self.disk_name(disk);
        let Job { keep, mut report, .. } = job;
        let (name, offset, len) = (report.job.clone(), report.offset, report.len);
        report.status = JobStatus::Concluded;
        self.tell(match end {
            JobEnd::Completed => EventKind::JobCompleted { id, job: name, offset, len },
            JobEnd::Cancelled => {
                report.error = Some("it was cancelled".into());
                EventKind::JobCancelled { id, job: name, offset, len }
            }
            JobEnd::Failed(reason) => {
                report.error = Some(reason.clone());
                EventKind::JobFailed { id, job: name, reason }
            }
        });
        if keep && let Some(here) = self.disks.get_mut(disk) {
            here.concluded.push(report);
        }
    }

    /// The disk goes over to what a job was for; the layer that becomes part of it.
    /// None, if it is none of its business: each kind makes one chain of another, and once.
    pub(super) fn job_switches(
        &mut self,
        disk: usize,
        name: &str,
        chain: &[LayerNumber],
    ) -> Option<Option<Layer>> {
        let old = self.image(disk)?.chain.layers().iter().map(|layer| layer.number);
        let old: Vec<LayerNumber> = old.collect();
        let job = self.job_mut(disk, name)?;
        if job.switched || lineage::after(&job.plan.kind, &old).as_deref() != Some(chain) {
            return None;
        }
        job.switched = true;
        Some(job.target.take())
    }

    /// The block-layer of these jobs was reaped.
    pub(super) fn jobs_lost(&mut self, disk: usize) {
        let jobs = self.disks.get(disk).map_or(&[][..], |disk| &disk.jobs);
        let names: Vec<String> = jobs.iter().map(|job| job.name().to_owned()).collect();
        for name in names {
            let Some(job) = self.job_mut(disk, &name) else {
                continue;
            };
            let Some(end) = job.end_at_death() else {
                let id = self.disk_name(disk);
                self.tell(EventKind::JobRestarted { id, job: name });
                continue;
            };
            if let Some(job) = self.drop_job(disk, &name) {
                self.conclude_job(disk, job, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_protocol::block_control::ErrorPolicy;

    use super::*;

    fn running(kind: JobKind) -> Job {
        let (job, paused, speed) = ("j".to_owned(), false, 0);
        let (on_source_error, on_target_error) = (ErrorPolicy::Report, ErrorPolicy::Report);
        let report = JobReport {
            job: job.clone(),
            kind: String::new(),
            status: JobStatus::Running,
            offset: 0,
            len: 0,
            speed,
            error: None,
        };
        let plan = JobPlan { job, speed, on_source_error, on_target_error, paused, kind };
        let (keep, runs, switched, cancelled) = (false, true, false, false);
        Job { plan, target: None, report, keep, fresh: None, runs, switched, cancelled }
    }

    #[test]
    fn a_death_forgets_neither_what_was_done_nor_what_was_agreed() {
        let running = running(JobKind::Stream { base: None, backing_file: None });
        assert_eq!(running.end_at_death(), None);
        let cancelled = Job { cancelled: true, ..running };
        assert_eq!(cancelled.end_at_death(), Some(JobEnd::Cancelled));
        let too_late = Job { switched: true, ..cancelled };
        assert_eq!(too_late.end_at_death(), Some(JobEnd::Completed));
    }
}
