//! The beginning: posts, disks and devices from the plan.
//!
//! Posts are ordered in the order in which they are made, and the slowest to get ready come first:
//! core loads a kernel, a block-layer opens an image.

use std::time::Instant;

use anyhow::Context;
use bulkhead_protocol::core::DeviceKind;
use bulkhead_protocol::device::RingShape;
use bulkhead_protocol::nbd::NBD_RING;
use bulkhead_protocol::spec::AioMode;
use bulkhead_sys::poller::Poller;

use super::consumer::{Consumer, Kind};
use super::control::Api;
use super::device::{Backend, Device, Queues};
use super::disk::{BLK, Disk};
use super::machine::Machine;
use super::post::{Phase, Post, Role};
use super::streams::{Stream, Streams};
use super::token::{Part, Token};
use super::{Instance, Launcher, Session, Terms};
use crate::attest::Proc;
use crate::heartbeat::Metronome;
use crate::plan::{Engine, MOST_EXPORTS, MOST_RINGS, Plan, Source, VM_QUEUE};
use crate::signals::Signals;
use crate::timers::Timers;

/// virtio-console without multiport has two queues (virtio 1.2 section 5.3.2); 64 buffers each is
/// what Linux fills.
const CONSOLE_QUEUES: Queues = Queues { count: 2, size: 64 };

/// virtio-rng has one queue (5.4.2), and Linux has one request in flight.
const RNG_QUEUES: Queues = Queues { count: 1, size: 16 };

impl Instance {
    /// An instance of `plan` whose launcher runs and whose helpers are not ordered yet.
    pub fn new(
        plan: Plan,
        launcher: Launcher,
        session: Session,
        signals: Signals,
        terms: Terms,
    ) -> anyhow::Result<Self> {
        let folder = plan.folder.as_ref().context("a dry run has no instance")?;
        let api = Api::new(folder.bind_control()?);
        let now = Instant::now();
        let mut instance = Self {
            pid: std::process::id() as i32,
            poller: Poller::new()?,
            timers: Timers::new(),
            metronome: Metronome::new(now),
            next_number: 0,
            signals,
            session: Some(session),
            launcher,
            posts: Vec::new(),
            machine: None,
            devices: Vec::new(),
            disks: Vec::new(),
            streams: Streams::default(),
            calls: Vec::new(),
            counts: Vec::new(),
            orders: Vec::new(),
            queries: Vec::new(),
            snapshots: Vec::new(),
            folder: std::env::current_dir().unwrap_or_default(),
            api,
            proc: Proc::open()?,
            started: false,
            outcome: None,
            plan,
        };
        instance.make_machine(terms)?;
        instance.make_disks()?;
        instance.make_small_devices()?;
        instance.post(Role::Control, "", &[], Vec::new());
        instance.make_sinks();
        instance.watch_all()?;
        Ok(instance)
    }

    /// Orders every process. To be called before the seal: the launcher works meanwhile.
    pub fn begin(&mut self) {
        self.order_all();
    }

    /// A vacant post: one that is not needed any more, or a new one.
    pub(super) fn post(
        &mut self,
        role: Role,
        id: &str,
        cpus: &[u32],
        arguments: Vec<String>,
    ) -> usize {
        let post = Post::new(role, id, cpus, arguments);
        let unneeded = |post: &Post| matches!(post.phase, Phase::Unneeded);
        match self.posts.iter().position(unneeded) {
            Some(at) => {
                self.posts.splice(at..=at, [post]);
                at
            }
            None => {
                self.posts.push(post);
                self.posts.len() - 1
            }
        }
    }

    fn make_machine(&mut self, terms: Terms) -> std::io::Result<()> {
        let Some(machine) = &self.plan.machine else {
            return Ok(());
        };
        let (vcpus, memory, console) = (machine.cpus, machine.memory, machine.console);
        let soft = match machine.engine {
            Engine::Kvm(_) => None,
            Engine::Soft(soft) => Some(soft),
        };
        self.streams.trace = terms.trace;
        self.streams.all.push(Stream::new(terms.serial)?);
        if console {
            self.streams.all.push(Stream::new(terms.console)?);
        }
        let cpus = self.plan.core_cpus.clone();
        let core = self.post(Role::Core, "", &cpus, vec![vcpus.to_string()]);
        if let Some(soft) = soft {
            let jit = if soft.jit { "jit=on" } else { "jit=off" };
            self.post(Role::SoftCpu(soft), "", &cpus, vec![vcpus.to_string(), jit.to_owned()]);
        }
        if self.plan.gdb.is_some() {
            self.post(Role::Gdb, "", &[], Vec::new());
        }
        self.machine = Some(Machine::new(core, memory, soft.map(|_| vcpus))?);
        Ok(())
    }

    fn make_disks(&mut self) -> std::io::Result<()> {
        for planned in 0..self.plan.disks.len() {
            let Some(disk) = self.plan.disks.get(planned) else {
                continue;
            };
            let (id, cpus, queues) = (disk.id.clone(), disk.cpus.clone(), disk.queues());
            match disk.source {
                Source::Image(_) => self.make_own_disk(planned, &id, &cpus, queues)?,
                Source::Foreign(_) => {
                    let plan = Queues { count: queues, size: VM_QUEUE };
                    let backend = Backend::Foreign(planned);
                    self.devices.push(Device::new(&id, DeviceKind::Blk, backend, plan, None)?);
                }
            }
        }
        Ok(())
    }

    fn make_own_disk(
        &mut self,
        planned: usize,
        id: &str,
        cpus: &[u32],
        queues: u16,
    ) -> std::io::Result<()> {
        let disk = self.disks.len();
        let planned_disk = self.plan.disks.get(planned);
        let exports = planned_disk.map_or(&[][..], |disk| &disk.nbd);
        let exports: Vec<_> = exports.iter().map(|nbd| (nbd.number, nbd.id.clone())).collect();
        let has_blk = self.machine.is_some() || planned_disk.is_some_and(|d| d.export.is_some());
        let blk_queues = if has_blk { usize::from(queues) } else { 0 };
        // Threads are made before the seal: those of exports that are added later are there from the start.
        let threads = match self.machine {
            Some(_) => (blk_queues + MOST_EXPORTS).min(MOST_RINGS),
            None => MOST_RINGS,
        };
        let mut arguments = vec![threads.to_string()];
        if planned_disk.is_some_and(|disk| disk.aio == AioMode::Native) {
            // The host has so many contexts for all of them: exports that may come later do without.
            arguments.push(format!("aio={}", blk_queues.max(1)));
        }
        let server = self.post(Role::BlockLayer(disk), id, cpus, arguments);
        let mut consumers = Vec::new();
        if has_blk {
            let post = self.post(Role::Blk(disk), id, cpus, vec![queues.to_string()]);
            consumers.push(Consumer::new(Kind::Blk, BLK, post, queues, RingShape::DEFAULT)?);
        }
        let client = consumers.first().map(|consumer| consumer.post);
        for (number, id) in exports {
            let post = self.post(Role::Nbd(disk, number), &id, &[], Vec::new());
            consumers.push(Consumer::new(Kind::Nbd, number, post, 1, NBD_RING)?);
        }
        let device = self.machine.is_some().then_some(self.devices.len());
        let source = self.plan.disks.get_mut(planned).map(|disk| &mut disk.source);
        if let Some(Source::Image(image)) = source
            && !image.service.read_only
        {
            image.chain.prepare()?;
        }
        let disk = self.plan.disks.get(planned);
        let limits = disk.map(|disk| disk.filters.limits).unwrap_or_default();
        let made = Disk::new(planned, server, device, queues, consumers, limits)?;
        if let (true, Some(client)) = (device.is_some(), client) {
            let table = Some(made.inflight.try_clone()?);
            let backend = Backend::Own(client);
            self.devices.push(Device::new(id, DeviceKind::Blk, backend, made.queues(), table)?);
        }
        self.disks.push(made);
        Ok(())
    }

    fn make_small_devices(&mut self) -> std::io::Result<()> {
        let Some(machine) = &self.plan.machine else {
            return Ok(());
        };
        let wanted = [
            (machine.console, DeviceKind::Console, "console"),
            (machine.rng, DeviceKind::Rng, "rng"),
        ];
        for (_, kind, id) in wanted.into_iter().filter(|(wanted, _, _)| *wanted) {
            let device = self.devices.len();
            let (role, queues) = match kind {
                DeviceKind::Console => (Role::Console(device), CONSOLE_QUEUES),
                _ => (Role::Rng(device), RNG_QUEUES),
            };
            let post = self.post(role, "", &[], Vec::new());
            let backend = Backend::Own(post);
            self.devices.push(Device::new(id, kind, backend, queues, None)?);
        }
        Ok(())
    }

    fn make_sinks(&mut self) {
        for stream in 0..self.streams.all.len() {
            if self.streams.all.get(stream).is_some_and(Stream::is_kept) {
                let id = ["serial", "console"].get(stream).copied().unwrap_or_default();
                let post = self.post(Role::Sink(stream), id, &[], Vec::new());
                if let Some(stream) = self.streams.all.get_mut(stream) {
                    stream.post = Some(post);
                }
            }
        }
    }

    fn watch_all(&self) -> std::io::Result<()> {
        if let Some(session) = &self.session {
            self.watch(session, Token::Session)?;
        }
        self.watch(&self.signals, Token::Signals)?;
        self.watch(&self.launcher.link, Token::Launcher(Part::Channel))?;
        self.watch(&self.launcher.log, Token::Launcher(Part::Log))?;
        self.watch(&self.launcher.pidfd, Token::Launcher(Part::Death))
    }
}
