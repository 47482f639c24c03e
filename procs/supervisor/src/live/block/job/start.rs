//! Starting a job: what is asked for is held against the disk, and its files are opened.
//!
//! Absent on purpose: what becomes of it afterwards ([`super`]).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use bulkhead_protocol::block::{
    BlockCommand, BlockOrder, JobKind, JobPlan, JobReport, JobStatus, LayerFormat, LayerNumber,
};
use bulkhead_protocol::block_control::{Extent, JobSpec, StartSpec};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::CacheMode;

use super::Job;
use crate::images::chain::Layer;
use crate::images::fresh::Fresh;
use crate::live::Instance;
use crate::live::block::lineage;
use crate::live::block::order::{NOBODY, Purpose};
use crate::refusal::refuse;

/// Jobs of one disk, and as many that are kept after their end.
const MOST_JOBS: usize = 16;

/// Bytes that are copied together, if the user does not say.
const GRANULARITY: u32 = 64 << 10;

impl Instance {
    /// Takes the files of a job and gives it to its disk's block-layer.
    pub(in crate::live::block) fn start_job(
        &mut self,
        call: u64,
        start: StartSpec,
    ) -> Result<(), Refusal> {
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
