//! Jobs as the supervisor knows them: by name, with descriptors, told of by events.
//!
//! A job runs as a task of the graph ([`crate::job`]). Here it is given its layers, commanded, and reported.
//! One that was cancelled waits no longer for a server that says nothing ([`cancelled`](super::cancelled)).

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_protocol::block::{
    BlockAnswer, BlockEvent, JobEnd, JobKind, JobPlan, JobReport, JobStatus, LayerNumber,
};
use bulkhead_protocol::block_control::{
    CopyMode as WantedMode, ErrorPolicy, Extent as WantedExtent, JobAction,
};

use super::bitmaps::Bitmaps;
use super::complaints::Complaints;
use super::layers::{Opening, format_name};
use super::record::{JobHost, Record, layer_at};
use crate::clock::Clock;
use crate::disk::{Action, Disk, Marked, OnError};
use crate::graph::Desk;
use crate::job::{
    self, BackingName, Backup, BitmapMode, ByBitmap, Commit, Control, CopyMode, Ended, Extent, Job,
    JobEvent, JobState, Mirror, Settings, Side, Stream, Sync,
};
use crate::node::Served;
use crate::outcome::Failure;
use crate::qcow2::Layer;

/// How long a server may take for the last that a job asks of it.
const PARTING: Duration = Duration::from_secs(10);

/// A job that has not ended.
#[derive(Debug)]
struct Running {
    name: String,
    kind: &'static str,
    /// The layer of its target, if that lies on a server.
    server: Option<LayerNumber>,
    control: Rc<Control>,
}

/// The jobs of the graph.
#[derive(Debug, Default)]
pub struct Jobs {
    running: RefCell<Vec<Running>>,
    /// Failures that no job waits for; a job that ignores them meets as many as its disk has pieces.
    complaints: Complaints,
    /// Those that one waits for.
    stops: Complaints,
}

/// What a job is started with.
pub struct Start {
    pub disk: Rc<Disk<Served>>,
    pub desk: Rc<Desk>,
    pub record: Rc<Record>,
    pub jobs: Rc<Jobs>,
    pub bitmaps: Rc<Bitmaps>,
    pub discard: bool,
    /// Bytes of the disk's blocks.
    pub block: u32,
    /// The order's number; none: a predecessor had the job.
    pub call: Option<u64>,
    pub plan: JobPlan,
}

/// A job with all that it works on.
struct Made {
    job: Job<Served>,
    host: JobHost,
    /// What is to be settled at the end, unless it is the disk's top then: the supervisor gives its journal up.
    written: Option<Layer<Served>>,
}

impl Jobs {
    /// As they are now.
    pub fn reports(&self) -> Vec<JobReport> {
        self.running.borrow().iter().map(|job| report(&job.name, job.kind, &job.control)).collect()
    }

    /// Does something about one of them.
    pub fn act(&self, name: &str, action: JobAction) -> Result<(), String> {
        let jobs = self.running.borrow();
        let job = jobs.iter().find(|job| job.name == name);
        let control = &job.ok_or("there is no such job")?.control;
        match action {
            JobAction::Pause => control.pause(),
            JobAction::Resume => control.resume(),
            JobAction::SetSpeed(speed) => control.set_speed(speed),
            JobAction::Cancel => control.cancel(false),
            JobAction::Complete if control.complete() => {}
            JobAction::Complete => return Err("the job is not ready".to_owned()),
            JobAction::Dismiss => return Err("the job has not ended".to_owned()),
        }
        Ok(())
    }

    /// What they have to tell.
    pub fn tell(&self, record: &Record) {
        for job in &*self.running.borrow() {
            for event in job.control.events() {
                match event {
                    // Its end is told when it holds nothing any more.
                    JobEvent::State(JobState::Concluded) => {}
                    JobEvent::State(_) => {
                        record.tell(BlockEvent::Job(report(&job.name, job.kind, &job.control)));
                    }
                    JobEvent::Failed { side, failure, action } => {
                        let paused = matches!(action, Action::Stop | Action::WaitForSpace);
                        let complaints = if paused { &self.stops } else { &self.complaints };
                        if !complaints.may_tell() {
                            continue;
                        }
                        let operation = if side == Side::Source { "read" } else { "write" };
                        record.tell(BlockEvent::Trouble {
                            job: Some(job.name.clone()),
                            operation: operation.to_owned(),
                            errno: failure.errno() as i32,
                            paused,
                        });
                    }
                }
            }
        }
    }

    /// What commands a job, and the layer of its target, if that lies on a server.
    pub fn on_server(&self, name: &str) -> Option<(Rc<Control>, LayerNumber)> {
        let jobs = self.running.borrow();
        let job = jobs.iter().find(|job| job.name == name)?;
        Some((Rc::clone(&job.control), job.server?))
    }

    fn remove(&self, name: &str) {
        self.running.borrow_mut().retain(|job| job.name != name);
    }
}

impl Start {
    /// Starts the job and stays with it to its end.
    pub async fn run(self, fds: Vec<OwnedFd>) {
        let name = self.plan.job.clone();
        let made = match self.make(fds).await {
            Ok(made) => made,
            Err(reason) => return self.refuse(&name, reason),
        };
        let Made { job, host, written } = made;
        let settings = Settings {
            speed: self.plan.speed,
            on_source_error: on_error(self.plan.on_source_error),
            on_target_error: on_error(self.plan.on_target_error),
        };
        let clock: Rc<dyn Clock> = Rc::clone(self.disk.clock());
        let (kind, control) = (job.kind().name(), Control::new(job.kind(), settings, clock));
        if self.plan.paused {
            control.pause();
        }
        let server = self.plan.kind.server();
        let running = Running { name: name.clone(), kind, server, control: Rc::clone(&control) };
        self.jobs.running.borrow_mut().push(running);
        if let Some(call) = self.call {
            self.record.tell(BlockEvent::Answer { call, answer: BlockAnswer::Done });
        }
        let ended = job.run(&control, &host).await;
        if let Some(layer) = written.as_ref().filter(|layer| !self.disk.top().is(layer)) {
            self.leave(layer).await;
        }
        drop((written, host));
        let report = report(&name, kind, &control);
        self.jobs.tell(&self.record);
        self.jobs.remove(&name);
        let end = match ended {
            Ok(()) if control.status().cancelled => JobEnd::Cancelled,
            Ok(()) => JobEnd::Completed,
            Err(Ended::Cancelled) => JobEnd::Cancelled,
            Err(Ended::Failed(failure)) => JobEnd::Failed(reason(failure)),
        };
        self.record.tell(BlockEvent::JobEnded { report, end });
    }

    /// A layer that the job has written is written no more, unless it is the disk's top now. What it has taken in
    /// is not to be lost with its journal, nor its bitmaps with the mark that somebody writes it.
    async fn leave(&self, layer: &Layer<Served>) {
        let server = self.plan.kind.server();
        let remotes = if server.is_some() { self.desk.remotes() } else { Vec::new() };
        if let Some(remote) = remotes.iter().find(|remote| Some(remote.layer()) == server) {
            remote.expire(Some(self.desk.now() + PARTING));
        }
        // How the job ended was decided before: one that completed has settled it.
        let _best = layer.settle().await;
        let _told_by_its_header = layer.shut().await;
    }

    fn refuse(&self, name: &str, reason: String) {
        let event = match self.call {
            Some(call) => BlockEvent::Answer { call, answer: BlockAnswer::Refused(reason) },
            None => {
                let kind = kind_name(&self.plan.kind).to_owned();
                let report = JobReport {
                    job: name.to_owned(),
                    kind,
                    status: JobStatus::Concluded,
                    offset: 0,
                    len: 0,
                    speed: self.plan.speed,
                    error: Some(reason.clone()),
                };
                BlockEvent::JobEnded { report, end: JobEnd::Failed(reason) }
            }
        };
        self.record.tell(event);
    }

    fn layer(&self, number: u32) -> Result<(usize, Layer<Served>), String> {
        let depth = self.record.depth(number);
        let layer = depth.and_then(|depth| layer_at(&self.disk.top(), depth));
        depth.zip(layer).ok_or_else(|| "the disk has no such layer".to_owned())
    }

    fn backing_name(&self, number: u32, wanted: &Option<String>) -> Option<BackingName> {
        let layers = self.record.layers();
        let named = layers.into_iter().find(|layer| layer.layer == number)?;
        let name = wanted.clone().unwrap_or(named.name);
        Some(BackingName { format: format_name(named.format).to_owned(), name })
    }

    async fn make(&self, fds: Vec<OwnedFd>) -> Result<Made, String> {
        let _alone = self.record.begin_alone().await;
        let mut fds = fds.into_iter();
        let disk = Rc::clone(&self.disk);
        let (record, job) = (Rc::clone(&self.record), self.plan.job.clone());
        let mut host = JobHost { record, job, target: None };
        let opening = Opening {
            desk: &self.desk,
            size: disk.size(),
            discard: self.discard,
            block: self.takes_the_disks_place().then_some(self.block),
            inherited: self.call.is_none(),
        };
        match &self.plan.kind {
            JobKind::Stream { base, backing_file } => {
                let into = disk.top();
                let name = base.and_then(|base| self.backing_name(base, backing_file));
                let base = base.map(|base| self.layer(base)).transpose()?.map(|(_, base)| base);
                if into.backing().is_none() {
                    return Err("nothing lies below the top layer".to_owned());
                }
                let job = Job::Stream(Stream { disk, into, base, name });
                Ok(Made { job, host, written: None })
            }
            JobKind::Commit { top, base, cache, data_file, journal, above, backing_file } => {
                let (number, name) = (*base, self.backing_name(*base, backing_file));
                let (_, top) = self.layer(*top)?;
                let (_, old) = self.layer(*base)?;
                Commit::refuse(&disk, &top, &old)?;
                let base = opening.writable(&old, *cache, *data_file, *journal, &mut fds).await;
                let base = base.map_err(|error| error.to_string())?;
                let header = above.map(|_| opening.header(&mut fds)).transpose();
                let header = header.map_err(|error| error.to_string())?;
                let drained = disk.drain().await;
                // A snapshot may have been put on meanwhile: the base is deeper then.
                let (depth, now) = self.layer(number)?;
                if !now.is(&old) {
                    return Err("the disk has gone over to another chain meanwhile".to_owned());
                }
                drop((old, now));
                disk.exchange(depth, base.clone(), &drained);
                drop(drained);
                let written = Some(base.clone());
                let job = Job::Commit(Commit { disk, top, base, name, header });
                Ok(Made { job, host, written })
            }
            JobKind::Mirror { target: plan, sync, granularity, mode } => {
                let below = match sync {
                    WantedExtent::Top => self.below_top(),
                    _ => None,
                };
                let target = opening.target(plan, &mut fds, below).await;
                let (target, target_is_zero) = target.map_err(|error| error.to_string())?;
                host.target = Some(plan.named.clone());
                let sync = match sync {
                    WantedExtent::Full => Sync::Full,
                    WantedExtent::Top => Sync::Top,
                    WantedExtent::None => Sync::None,
                    _ => return Err("a mirror has no bitmap".to_owned()),
                };
                let mode = match mode {
                    WantedMode::Background => CopyMode::Background,
                    WantedMode::WriteBlocking => CopyMode::WriteBlocking,
                };
                let granularity = Some(u64::from(*granularity)).filter(|bytes| *bytes > 0);
                let written = Some(target.clone());
                let job = Mirror { disk, target, sync, mode, granularity, target_is_zero };
                job.refuse()?;
                Ok(Made { job: Job::Mirror(job), host, written })
            }
            JobKind::Backup { target: plan, sync, bitmap } => {
                let below = match sync {
                    WantedExtent::Top => self.below_top(),
                    _ => None,
                };
                // Before the target is opened: one that is refused leaves it as it was.
                let extent = self.extent(*sync, bitmap.as_deref()).await?;
                let target = opening.target(plan, &mut fds, below).await;
                let (target, _) = target.map_err(|error| error.to_string())?;
                let written = Some(target.clone());
                let job = Backup { disk, target, extent };
                job.refuse()?;
                Ok(Made { job: Job::Backup(job), host, written })
            }
        }
    }

    /// Whether what it writes may become the disk's top.
    fn takes_the_disks_place(&self) -> bool {
        match &self.plan.kind {
            JobKind::Mirror { .. } => true,
            JobKind::Commit { top, .. } => self.record.depth(*top) == Some(0),
            JobKind::Stream { .. } | JobKind::Backup { .. } => false,
        }
    }

    fn below_top(&self) -> Option<(Layer<Served>, bulkhead_protocol::block::NamedLayer)> {
        let layers = self.record.layers();
        Some((self.disk.top().backing()?, layers.get(1)?.clone()))
    }

    async fn extent(
        &self,
        sync: WantedExtent,
        bitmap: Option<&str>,
    ) -> Result<Extent<Served>, String> {
        let mode = match sync {
            WantedExtent::Full => return Ok(Extent::Full),
            WantedExtent::Top => return Ok(Extent::Top),
            WantedExtent::None => return Ok(Extent::None),
            WantedExtent::Incremental => BitmapMode::OnSuccess,
            WantedExtent::Bitmap => BitmapMode::Never,
        };
        let name = bitmap.ok_or("a bitmap is wanted")?;
        let marked = self.bitmaps.marked(&self.disk, name).await?;
        if let (Marked::Image(image, _), BitmapMode::OnSuccess) = (&marked, mode)
            && image.is_read_only()
        {
            return Err(format!("the image of bitmap '{name}' is read-only; give --sync bitmap"));
        }
        let claimed = ByBitmap::claim(marked, mode);
        claimed.map(Extent::Bitmap).map_err(|_| format!("another job uses the bitmap '{name}'"))
    }
}

fn report(name: &str, kind: &str, control: &Control) -> JobReport {
    let status = control.status();
    JobReport {
        job: name.to_owned(),
        kind: kind.to_owned(),
        status: match status.state {
            JobState::Created => JobStatus::Created,
            JobState::Running => JobStatus::Running,
            JobState::Paused => JobStatus::Paused,
            JobState::Ready => JobStatus::Ready,
            JobState::Standby => JobStatus::Standby,
            JobState::Pending => JobStatus::Pending,
            JobState::Concluded => JobStatus::Concluded,
        },
        offset: status.offset,
        len: status.len,
        speed: status.speed,
        error: status.failure.or(status.waits_after).map(reason),
    }
}

fn kind_name(kind: &JobKind) -> &'static str {
    match kind {
        JobKind::Stream { .. } => job::JobKind::Stream.name(),
        JobKind::Commit { .. } => job::JobKind::Commit.name(),
        JobKind::Mirror { .. } => job::JobKind::Mirror.name(),
        JobKind::Backup { .. } => job::JobKind::Backup.name(),
    }
}

/// A policy in the graph's words.
pub(super) fn on_error(policy: ErrorPolicy) -> OnError {
    match policy {
        ErrorPolicy::Report => OnError::Report,
        ErrorPolicy::Ignore => OnError::Ignore,
        ErrorPolicy::Stop => OnError::Stop,
        ErrorPolicy::Enospc => OnError::Enospc,
    }
}

fn reason(failure: Failure) -> String {
    failure.to_string()
}
