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

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use bulkhead_protocol::block::{
    BlockCommand, BlockOrder, JobEnd, JobKind, JobPlan, JobReport, JobStatus, LayerFormat,
    LayerNumber,
};
use bulkhead_protocol::block_control::{BlockResponse, Extent, JobAction, JobSpec, StartSpec};
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::CacheMode;

use super::lineage;
use super::order::{NOBODY, Purpose};
use crate::images::chain::{Chain, Layer};
use crate::images::fresh::Fresh;
use crate::live::Instance;
use crate::live::token::PostIndex;
use crate::refusal::refuse;

/// Jobs of one disk, and as many that are kept after their end.
const MOST_JOBS: usize = 16;

/// Bytes that are copied together, if the user does not say.
const GRANULARITY: u32 = 64 << 10;

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
    /// Takes the files of a job and gives it to its disk's block-layer.
    pub(super) fn start_job(&mut self, call: u64, start: StartSpec) -> Result<(), Refusal> {
        let StartSpec { disk: id, speed, keep, on_source_error, on_target_error, .. } = start;
        let kind = kind_name(&start.kind);
        let option = format!("{kind} {id}");
        let disk = self.serving_disk(&option, &id)?;
        let job = if start.job.is_empty() { format!("{kind}-{id}") } else { start.job };
        self.refuse_job(&option, disk, &job)?;
        if !matches!(start.kind, JobSpec::Backup { .. })
            || self.is_growing(disk)
            || self.is_going_back(disk)
        {
            self.refuse_busy(&option, disk)?;
        }
        let (kind_plan, target, fresh) = self.plan_job(&option, disk, &start.kind)?;
        if let Err(refusal) = self.refuse_pointless(&option, disk, &job, &kind_plan) {
            self.close_base(disk, &kind_plan);
            return Err(refusal);
        }
        let plan = JobPlan {
            job: job.clone(),
            speed,
            on_source_error,
            on_target_error,
            paused: false,
            kind: kind_plan,
        };
        let order = BlockOrder::Start(plan.clone());
        let command = BlockCommand::Order { call: NOBODY, order: order.clone() };
        if let Err(refusal) = self.refuse_full(&option, disk, &command) {
            // A base that was opened for writing is only read again.
            self.close_base(disk, &plan.kind);
            return Err(refusal);
        }
        let report = JobReport {
            job: job.clone(),
            kind: kind.to_owned(),
            status: JobStatus::Created,
            offset: 0,
            len: 0,
            speed,
            error: None,
        };
        let (runs, switched, cancelled) = (false, false, false);
        let job_record = Job { plan, target, report, keep, fresh, runs, switched, cancelled };
        let fds: Vec<_> = match self.image(disk) {
            Some(image) => {
                let fds = job_record.fds(&image.chain);
                fds.iter().filter_map(|fd| fd.try_clone_to_owned().ok()).collect()
            }
            None => Vec::new(),
        };
        if let Some(here) = self.disks.get_mut(disk) {
            here.jobs.push(job_record);
        }
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.order_block(disk, order, &fds, Purpose::Start { call, job });
        self.hand_over_sockets(disk);
        Ok(())
    }

    /// A job at whose end the disk would consist of what it consists of already.
    fn refuse_pointless(
        &self,
        option: &str,
        disk: usize,
        name: &str,
        job: &JobKind,
    ) -> Result<(), Refusal> {
        let layers = self.image(disk).map_or(&[][..], |image| image.chain.layers());
        let chain: Vec<LayerNumber> = layers.iter().map(|layer| layer.number).collect();
        if matches!(job, JobKind::Backup { .. }) || lineage::after(job, &chain).is_some() {
            return Ok(());
        }
        let reason = "nothing lies below the top layer that would leave the disk";
        Err(refuse(option, name, reason, "see the chain in 'bulkhead block query'"))
    }

    /// The job as its block-layer gets it, and its files.
    fn plan_job(
        &mut self,
        option: &str,
        disk: usize,
        kind: &JobSpec,
    ) -> Result<(JobKind, Option<Layer>, Option<Fresh>), Refusal> {
        let size = self.disks.get(disk).and_then(|disk| disk.info).map_or(0, |info| info.size);
        match kind {
            JobSpec::Stream { base, backing_file } => {
                self.writable_image(option, disk)?;
                let base =
                    base.as_ref().map(|base| self.layer_of(option, disk, base)).transpose()?;
                let backing_file = backing_file.clone();
                if backing_file.is_some() && base.is_none() {
                    let (reason, remedy) = ("nothing stays below that it names", "give --base too");
                    return Err(refuse(option, "--backing-file", reason, remedy));
                }
                Ok((JobKind::Stream { base, backing_file }, None, None))
            }
            JobSpec::Commit { top, base, backing_file } => {
                let ends = (top.as_deref(), base.as_deref());
                let plan = self.plan_commit(option, disk, ends, backing_file.clone())?;
                Ok((plan, None, None))
            }
            JobSpec::Mirror { target, sync, granularity, mode } => {
                if matches!(sync, Extent::Incremental | Extent::Bitmap) {
                    let remedy = "give full, top or none";
                    return Err(refuse(option, "--sync", "a mirror has no bitmap", remedy));
                }
                let layers = self.image(disk).map_or(0, |image| image.chain.layers().len());
                if *sync == Extent::Top && layers > 1 && target.format != LayerFormat::Qcow2 {
                    let (reason, remedy) = ("a raw file has nothing below it", "give format=qcow2");
                    return Err(refuse(option, "--sync top", reason, remedy));
                }
                let taken = self.take_target(option, disk, target, size)?;
                let granularity = checked_granularity(option, *granularity)?;
                let (target, sync, mode) = (taken.plan, *sync, *mode);
                let kind = JobKind::Mirror { target, sync, granularity, mode };
                Ok((kind, Some(taken.layer), taken.fresh))
            }
            JobSpec::Backup { target, sync, bitmap } => {
                let wants_bitmap = matches!(sync, Extent::Incremental | Extent::Bitmap);
                if wants_bitmap != bitmap.is_some() {
                    let remedy = "give --bitmap with --sync incremental or bitmap, and only then";
                    return Err(refuse(option, "--bitmap", "it goes with --sync", remedy));
                }
                let taken = self.take_target(option, disk, target, size)?;
                let (target, sync, bitmap) = (taken.plan, *sync, bitmap.clone());
                let kind = JobKind::Backup { target, sync, bitmap };
                Ok((kind, Some(taken.layer), taken.fresh))
            }
        }
    }

    fn plan_commit(
        &mut self,
        option: &str,
        disk: usize,
        (top, base): (Option<&Path>, Option<&Path>),
        backing_file: Option<String>,
    ) -> Result<JobKind, Refusal> {
        self.writable_image(option, disk)?;
        let numbers: Vec<LayerNumber> = match self.image(disk) {
            Some(image) => image.chain.layers().iter().map(|layer| layer.number).collect(),
            None => Vec::new(),
        };
        let ends = (numbers.first().copied(), numbers.last().copied());
        let given = |path| self.layer_of(option, disk, path);
        let top = top.map(given).transpose()?.or(ends.0).unwrap_or_default();
        let base = base.map(given).transpose()?.or(ends.1).unwrap_or_default();
        let depth = |number| numbers.iter().position(|other| *other == number);
        if depth(base) <= depth(top) {
            let reason = "the base is not below the top";
            let remedy = "see the chain in 'bulkhead block query'";
            return Err(refuse(option, "--base", reason, remedy));
        }
        let pivots = ends.0 == Some(top);
        if pivots && backing_file.is_some() {
            let (reason, remedy) = ("no layer lies above the top one", "leave it out");
            return Err(refuse(option, "--backing-file", reason, remedy));
        }
        // The layer above is the disk's top, and written anyway, or only read as yet.
        let above = depth(top).and_then(|depth| depth.checked_sub(1)).filter(|depth| *depth > 0);
        let above = above.and_then(|depth| numbers.get(depth).copied());
        let image = self.image_mut(disk);
        let cache = image.as_ref().map_or(CacheMode::Writeback, |image| image.service.cache);
        let cache = if pivots { cache } else { CacheMode::Writeback };
        let layer = image.and_then(|image| image.chain.layer_mut(base));
        let Some(layer) = layer else {
            return Err(refuse(option, "--base", "there is no such layer", "see 'block query'"));
        };
        layer.open_for_writing(option, cache)?;
        let (data_file, journal) = (layer.data_file.is_some(), layer.format == LayerFormat::Qcow2);
        if let Some(above) = above
            && let Err(refusal) = self.open_above(option, disk, above)
        {
            self.only_read(disk, base);
            return Err(refusal);
        }
        Ok(JobKind::Commit { top, base, cache, data_file, journal, above, backing_file })
    }

    fn open_above(&mut self, option: &str, disk: usize, above: LayerNumber) -> Result<(), Refusal> {
        let layer = self.image_mut(disk).and_then(|image| image.chain.layer_mut(above));
        layer.map_or(Ok(()), |layer| layer.open_for_writing(option, CacheMode::Writeback))
    }

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

    fn layer_of(&self, option: &str, disk: usize, path: &Path) -> Result<LayerNumber, Refusal> {
        let found = self.image(disk).and_then(|image| image.chain.find(path));
        let remedy = "give a path that 'bulkhead block query' shows";
        found
            .map(|layer| layer.number)
            .ok_or_else(|| refuse(option, path.display(), "the disk has no such file", remedy))
    }

    fn refuse_job(&self, option: &str, disk: usize, job: &str) -> Result<(), Refusal> {
        if self.disk_of_job(job).is_some() || self.kept_job(job).is_some() {
            let remedy = "choose another name by --job, or dismiss that one";
            return Err(refuse(option, job, "there is a job of this name", remedy));
        }
        let jobs = self.disks.get(disk).map_or(0, |disk| disk.jobs.len() + disk.concluded.len());
        if jobs >= MOST_JOBS {
            let reason = format!("the disk has {MOST_JOBS} jobs already");
            return Err(refuse(option, job, reason, "wait for one, or dismiss one"));
        }
        Ok(())
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

fn kind_name(kind: &JobSpec) -> &'static str {
    match kind {
        JobSpec::Stream { .. } => "stream",
        JobSpec::Commit { .. } => "commit",
        JobSpec::Mirror { .. } => "mirror",
        JobSpec::Backup { .. } => "backup",
    }
}

fn checked_granularity(option: &str, granularity: u32) -> Result<u32, Refusal> {
    match granularity {
        0 => Ok(GRANULARITY),
        // QEMU's limits.
        bytes if bytes.is_power_of_two() && (512..=64 << 20).contains(&bytes) => Ok(bytes),
        other => {
            let remedy = "give a power of two from 512 to 64M";
            Err(refuse(option, format!("--granularity {other}"), "it is none", remedy))
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
