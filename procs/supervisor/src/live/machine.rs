//! The machine: core's plan, and what is done about what core says.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_memory::RamLayout;
use bulkhead_protocol::core::{CoreCommand, CoreEvent, CorePlan};
use bulkhead_protocol::crash::Crash;
use bulkhead_protocol::event::{EndReason, EventKind};
use bulkhead_protocol::spec::OnCrash;
use bulkhead_sys::memfd::create_sealed;

use super::cords::Cords;
use super::post::{Phase, Role};
use super::token::PostIndex;
use super::{Due, Instance, Outcome};
use crate::plan;
use crate::plan::Engine;
use crate::refusal::refuse;

/// State of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// vCPUs were not started yet.
    Starting,
    /// vCPUs run.
    Running,
    /// vCPUs are stopped by the user.
    Paused,
    /// vCPUs are stopped since the guest crashed; the user may look at it, let it go on or reset it.
    Crashed,
    /// The power button was pressed: the order of this number ends the wait.
    ShuttingDown(u64),
}

/// The machine of an instance.
#[derive(Debug)]
pub struct Machine {
    /// Core's post.
    pub core: PostIndex,
    /// State.
    pub power: Power,
    ram: OwnedFd,
    /// Channels between core and soft-cpu, until both have theirs.
    cords: Option<Cords>,
    /// Core's end of the channel to a debugger's process, until core has it.
    pub(super) debugger: Option<OwnedFd>,
    run_was_sent: bool,
}

impl Machine {
    /// A machine with `memory` bytes of fresh RAM, which nobody has touched yet.
    /// `soft`: vCPUs that are executed in software.
    pub fn new(core: PostIndex, memory: u64, soft: Option<u32>) -> std::io::Result<Self> {
        Ok(Self {
            core,
            power: Power::Starting,
            ram: create_sealed("guest-ram", memory)?,
            cords: soft.map(|vcpus| cords(vcpus, memory)).transpose()?,
            debugger: None,
            run_was_sent: false,
        })
    }
}

impl Machine {
    /// RAM, and what leads to core, in the order of soft-cpu's plan.
    pub(super) fn fds_of_soft_cpu(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.ram.as_fd()];
        fds.extend(self.cords.iter().flat_map(|cords| cords.of_soft_cpu.fds()));
        fds
    }
}

fn cords(vcpus: u32, memory: u64) -> std::io::Result<Cords> {
    Cords::new(vcpus, &RamLayout::new(memory).map_err(std::io::Error::other)?)
}

fn payloads(machine: &plan::Machine) -> Vec<BorrowedFd<'_>> {
    let mut fds = vec![machine.kernel.file.as_fd()];
    fds.extend(machine.initrd.iter().map(|initrd| initrd.file.as_fd()));
    fds
}

impl Instance {
    /// Hands core its plan, the devices' ends, and connections to all backends that wait.
    pub(super) fn plan_core(&mut self, post: PostIndex) {
        let (Some(planned), Some(machine), Some(serial)) =
            (&self.plan.machine, &self.machine, self.streams.serial())
        else {
            return;
        };
        let command = CoreCommand::Plan(Box::new(CorePlan {
            cpus: planned.cpus,
            memory: planned.memory,
            engine: planned.engine.kind(),
            append: planned.append.clone(),
            debug_exit: planned.debug_exit,
            waits_for_debugger: self.plan.gdb.as_ref().is_some_and(|gdb| gdb.wait),
            initrd: planned.initrd.is_some(),
            devices: self.devices.iter().map(|d| d.plan.clone()).collect(),
        }));
        let mut fds = match &planned.engine {
            Engine::Kvm(kvm) => vec![kvm.as_fd()],
            Engine::Soft(_) => machine.cords.iter().flat_map(|cords| cords.of_core.fds()).collect(),
        };
        fds.extend([machine.ram.as_fd(), serial]);
        fds.extend(payloads(planned));
        let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) else {
            return;
        };
        let _ = process.command(command, &fds);
        for (index, device) in self.devices.iter().enumerate() {
            let fds = device.fds();
            let command = CoreCommand::Device { device: index as u16, fds: fds.len() as u16 };
            let _ = process.command(command, &fds);
        }
        self.was_planned(post);
        self.cut_cords();
        self.hand_debugger();
        for device in 0..self.devices.len() {
            self.connect_device(device);
        }
        self.run_if_connected();
    }

    /// Drops our copies of the channels once both processes have theirs: each must see the other end.
    pub(super) fn cut_cords(&mut self) {
        let planned = |role| {
            let post = self.posts.iter().find(|post| post.role == role);
            post.is_some_and(|post| matches!(post.phase, Phase::Planned(_) | Phase::Serving(..)))
        };
        if planned(Role::Core)
            && planned(Role::SoftCpu)
            && let Some(machine) = &mut self.machine
        {
            machine.cords = None;
        }
    }

    /// Whether core has its plan.
    pub(super) fn core_is_planned(&self) -> bool {
        let core = self.machine.as_ref().and_then(|machine| self.posts.get(machine.core));
        core.is_some_and(|post| matches!(post.phase, Phase::Planned(_) | Phase::Serving(..)))
    }

    /// Starts the vCPUs once every device has had its first connection.
    pub(super) fn run_if_connected(&mut self) {
        let all = self.devices.iter().all(|device| device.connected);
        match &mut self.machine {
            Some(machine) if all && !machine.run_was_sent => machine.run_was_sent = true,
            _ => return,
        }
        self.tell_core(CoreCommand::Run, &[]);
    }

    /// Sends core a command, if it has its plan.
    pub(super) fn tell_core(&mut self, command: CoreCommand, fds: &[BorrowedFd<'_>]) {
        let Some(post) = self.machine.as_ref().map(|machine| machine.core) else {
            return;
        };
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
            // An error is a death, which the pidfd tells.
            let _ = process.command(command, fds);
        }
        self.watch_room(post);
    }

    fn power(&mut self, power: Power) {
        if let Some(machine) = &mut self.machine {
            machine.power = power;
        }
    }

    /// News from core.
    pub(super) fn on_core(&mut self, post: PostIndex, event: CoreEvent) {
        let _ = post;
        match event {
            CoreEvent::Refused { option, reason, remedy } => {
                self.on_core_refused(&option, &reason, remedy)
            }
            CoreEvent::Running => self.on_running(),
            CoreEvent::GuestStarted => self.tell(EventKind::GuestStarted),
            CoreEvent::Paused => self.on_paused(),
            CoreEvent::Resumed => self.on_resumed(),
            CoreEvent::DeviceUp { device } => self.on_device_up(usize::from(device)),
            CoreEvent::DeviceFault { device, reason } => {
                self.on_device_fault(usize::from(device), reason);
            }
            CoreEvent::NeedsReset { device } => self.on_needs_reset(usize::from(device)),
            CoreEvent::ResetRequested => self.on_reset(),
            CoreEvent::PoweredOff => self.conclude(Outcome::Ended(EndReason::PowerOff)),
            CoreEvent::DebugExit { result } => {
                self.conclude(Outcome::Ended(EndReason::DebugExit(result)));
            }
            CoreEvent::Crashed(crash) => self.on_crash(crash),
        }
    }

    fn on_core_refused(&mut self, option: &str, reason: &str, remedy: String) {
        let Some(machine) = &self.plan.machine else {
            return;
        };
        let value = match option {
            "--kernel" => machine.kernel.path.display().to_string(),
            "--initrd" => match &machine.initrd {
                Some(initrd) => initrd.path.display().to_string(),
                None => String::new(),
            },
            "--memory" => format!("{} MiB", machine.memory >> 20),
            "--cpus" => machine.cpus.to_string(),
            "--cpu" => match machine.engine {
                Engine::Kvm(_) => "kvm".to_owned(),
                Engine::Soft(_) => "soft".to_owned(),
            },
            "--append" => machine.append.clone(),
            _ => "this host".to_owned(),
        };
        self.conclude(Outcome::Refused(refuse(option, value, reason, remedy)));
    }

    /// A guest that reboots instead of powering off gets no more time for that.
    fn on_running(&mut self) {
        if !matches!(self.machine_power(), Some(Power::ShuttingDown(_))) {
            self.power(Power::Running);
        }
        self.announce_start();
    }

    fn on_paused(&mut self) {
        if !matches!(self.machine_power(), Some(Power::ShuttingDown(_))) {
            self.power(Power::Paused);
        }
        self.answer_calls(true);
        self.tell(EventKind::Paused);
    }

    fn on_resumed(&mut self) {
        if !matches!(self.machine_power(), Some(Power::ShuttingDown(_))) {
            self.power(Power::Running);
        }
        self.answer_calls(false);
        self.tell(EventKind::Resumed);
    }

    /// State of the machine, if this instance has one.
    pub(super) fn machine_power(&self) -> Option<Power> {
        self.machine.as_ref().map(|machine| machine.power)
    }

    fn on_needs_reset(&mut self, device: usize) {
        if let Some(device) = self.devices.get_mut(device) {
            let id = device.plan.id.clone();
            let gone = || "its backend is gone".to_owned();
            let reason = device.trouble.take().unwrap_or_else(gone);
            self.tell(EventKind::NeedsReset { id, reason });
        }
    }

    fn on_reset(&mut self) {
        match &self.plan.machine {
            Some(machine) if machine.no_reboot => {
                self.conclude(Outcome::Ended(EndReason::Reset));
            }
            _ => {
                self.tell(EventKind::Reset);
                self.boot_again();
            }
        }
    }

    fn boot_again(&mut self) {
        let (Some(planned), Some(machine)) = (&self.plan.machine, &self.machine) else {
            return;
        };
        let command = CoreCommand::Boot { initrd: planned.initrd.is_some() };
        let fds = payloads(planned);
        let post = machine.core;
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) {
            let _ = process.command(command, &fds);
        }
        self.watch_room(post);
    }

    /// A guest that is being shut down, or may not boot again, has no way but to end.
    fn on_crash(&mut self, crash: Crash) {
        let reason = crash.to_string();
        self.tell(EventKind::GuestCrashed(crash));
        let is_leaving = matches!(self.machine_power(), Some(Power::ShuttingDown(_)));
        let action = match &self.plan.machine {
            Some(machine) if machine.no_reboot && machine.on_crash == OnCrash::Reset => {
                OnCrash::Stop
            }
            Some(machine) if !is_leaving => machine.on_crash,
            _ => OnCrash::Stop,
        };
        match action {
            OnCrash::Stop => self.conclude(Outcome::Ended(EndReason::GuestCrashed(reason))),
            OnCrash::Reset => self.on_reset(),
            OnCrash::Pause => self.power(Power::Crashed),
        }
    }

    /// Presses the power button and ends the VM after `timeout_ms`; storage ends at once.
    pub(super) fn shut_down(&mut self, timeout_ms: u64) {
        let is_crashed = self.machine_power() == Some(Power::Crashed);
        if !self.started || self.machine.is_none() || timeout_ms == 0 || is_crashed {
            return self.conclude(Outcome::Ended(EndReason::Killed));
        }
        let number = self.number();
        if self.machine_power() == Some(Power::Paused) {
            // A guest whose vCPUs are stopped cannot see the button.
            self.tell_core(CoreCommand::Resume, &[]);
        }
        self.power(Power::ShuttingDown(number));
        self.tell_core(CoreCommand::PowerButton, &[]);
        self.tell(EventKind::PowerButton);
        let most = Duration::from_secs(24 * 3600);
        let timeout = Duration::from_millis(timeout_ms).min(most);
        self.timers.set(Instant::now() + timeout, Due::PowerOff(number));
    }

    /// The guest had its time.
    pub(super) fn power_off_is_due(&mut self, number: u64) {
        if self.machine_power() == Some(Power::ShuttingDown(number)) {
            self.conclude(Outcome::Ended(EndReason::Killed));
        }
    }
}
