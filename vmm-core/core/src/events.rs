//! The event loop: one thread, one poller, one place where everything comes together.
//!
//! What comes: commands and heartbeats of the supervisor, notices of vCPU threads, the serial stream,
//! the backends' sockets, the debugger's requests. Law: nothing here waits for a peer. The only wait besides the poller's is for
//! vCPUs to leave the guest.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::Context;
use bulkhead_hypervisor::Hypervisor;
use bulkhead_hypervisor::kvm::Kvm;
use bulkhead_machine::Request;
use bulkhead_machine::power::Button;
use bulkhead_machine::uart::Wake;
use bulkhead_protocol::core::{CoreCommand, CoreEvent};
use bulkhead_runtime::Incoming;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Interest, Poller, Token};

use crate::crew::Crew;
use crate::debugger::Debugger;
use crate::device::Surroundings;
use crate::devices::{Devices, News};
use crate::life::Life;
use crate::machine::{Machine, MachineError, Parts};
use crate::notice::{Notice, Notices};
use crate::plan::{Engine, Images, Plan};
use crate::serial::Serial;
use crate::supervisor::Supervisor;

const CHANNEL: Token = 0;
const BELL: Token = 1;
const SERIAL: Token = 2;
pub(crate) const DEBUGGER: Token = 3;

/// Everything that this process is.
pub struct Core {
    pub(crate) supervisor: Supervisor,
    pub(crate) poller: Poller,
    bell: Arc<Doorbell>,
    notices: Receiver<Notice>,
    pub(crate) machine: Machine,
    pub(crate) devices: Devices,
    serial: Serial,
    /// What the serial stream is watched for now.
    serial_watched: Option<Interest>,
    pub(crate) life: Life,
    /// What to boot as soon as the devices are quiet.
    pub(crate) next: Option<Images>,
    /// The supervisor wants the vCPUs stopped.
    pub(crate) held: bool,
    pub(crate) debugger: Debugger,
}

/// What the loop waits with: made before the seal, after which nothing of this kind can be made.
pub struct Ears {
    poller: Poller,
    bell: Arc<Doorbell>,
}

impl Ears {
    /// A poller, and the doorbell that vCPU threads ring.
    pub fn new() -> anyhow::Result<Self> {
        let poller = Poller::new().context("make a poller")?;
        let bell = Arc::new(Doorbell::new().context("make a doorbell")?);
        Ok(Self { poller, bell })
    }
}

/// Makes the machine and serves it until the supervisor ends this process.
pub fn run(supervisor: Supervisor, ears: Ears, crew: Crew, plan: Plan) -> anyhow::Result<()> {
    let Ears { poller, bell } = ears;
    poller.add(&supervisor, CHANNEL, Interest::Read)?;
    poller.add(&*bell, BELL, Interest::Read)?;
    let (notices, taken) = Notices::new(Arc::clone(&bell));
    let Plan { cpus, layout, memory, ram, append, debug_exit, .. } = plan;
    let Plan { devices, engine, serial, images, waits_for_debugger, .. } = plan;
    let parts = |engine| Parts { engine, cpus, memory, layout, append, debug_exit };
    let made = hypervisor(engine)
        .and_then(|engine| Machine::new(parts(engine), &notices, wake(&bell)))
        .and_then(|machine| machine.load(&images, &|| supervisor.breathe(0)).map(|()| machine));
    drop(images);
    let machine = match made {
        Ok(machine) => machine,
        Err(error) => return refuse(&supervisor, &poller, &error),
    };
    crew.assign(machine.seats());
    let around = Surroundings { vm: Arc::clone(&machine.vm), ram, attention: wake(&bell) };
    let devices = Devices::new(devices, around, Arc::clone(&machine.board.pci));
    let serial = Serial::new(serial, Arc::clone(&machine.board.uart));
    supervisor.ready()?;
    let mut core = Core {
        supervisor,
        poller,
        bell,
        notices: taken,
        machine,
        devices,
        serial,
        serial_watched: None,
        life: Life::Loaded { run: false },
        next: None,
        held: false,
        debugger: Debugger::new(cpus, waits_for_debugger),
    };
    core.serve()
}

fn hypervisor(engine: Engine) -> Result<Box<dyn Hypervisor>, MachineError> {
    Ok(match engine {
        Engine::Kvm(fd) => Box::new(Kvm::from_fd(fd)?),
        Engine::Soft(remote) => Box::new(remote),
    })
}

/// Called by devices on any thread: rings, nothing else.
fn wake(bell: &Arc<Doorbell>) -> Wake {
    let bell = Arc::clone(bell);
    Arc::new(move || bell.ring())
}

/// Tells why the machine cannot be, and waits to be ended.
fn refuse(supervisor: &Supervisor, poller: &Poller, error: &MachineError) -> anyhow::Result<()> {
    supervisor.event(&error.refusal())?;
    let mut events = Vec::new();
    loop {
        while let Some(incoming) = supervisor.take()? {
            match incoming {
                Incoming::Heartbeat(number) => supervisor.alive(number, 0)?,
                Incoming::Stop => return Ok(()),
                Incoming::Role(..) => {}
            }
        }
        poller.wait(None, &mut events)?;
        events.clear();
    }
}

impl Core {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = Vec::new();
        self.pump_serial()?;
        loop {
            // What was taken while the kernel was loaded makes the channel readable no more.
            if self.supervisor.is_waiting() && self.hear()? {
                return Ok(());
            }
            let left =
                self.devices.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            self.poller.wait(left, &mut events)?;
            for event in events.drain(..) {
                match event.token {
                    CHANNEL => {
                        if self.hear()? {
                            return Ok(());
                        }
                    }
                    BELL => self.answer_bell()?,
                    SERIAL => self.pump_serial()?,
                    DEBUGGER => self.hear_debugger()?,
                    socket => self.advance(News::Socket(socket))?,
                }
            }
            if left.is_some() {
                self.advance(News::Time)?;
            }
        }
    }

    /// Takes everything that the supervisor has sent; `true` if it said stop.
    fn hear(&mut self) -> anyhow::Result<bool> {
        while let Some(incoming) = self.supervisor.take()? {
            match incoming {
                Incoming::Heartbeat(number) => {
                    self.supervisor.alive(number, self.machine.progress())?
                }
                Incoming::Role(command, fds) => self.obey(command, fds)?,
                Incoming::Stop => return Ok(true),
            }
        }
        Ok(false)
    }

    fn obey(&mut self, command: CoreCommand, fds: Vec<OwnedFd>) -> anyhow::Result<()> {
        match command {
            CoreCommand::Plan(_) => anyhow::bail!("a second plan"),
            CoreCommand::Device { device, .. } => self.devices.add(device, fds)?,
            CoreCommand::DeviceConnected { device } => {
                self.devices.connect(device, fds, &self.poller, Instant::now())?;
                self.advance(News::Anything)?;
            }
            CoreCommand::DeviceLost { device } => {
                self.devices.disconnect(device)?;
                self.advance(News::Anything)?;
            }
            CoreCommand::DeviceDegraded { device } => {
                self.devices.degrade(device)?;
                self.advance(News::Anything)?;
            }
            CoreCommand::Debugger => self.take_debugger(fds)?,
            CoreCommand::Run => self.want_run()?,
            CoreCommand::Pause => self.pause()?,
            CoreCommand::Resume => self.resume()?,
            CoreCommand::PowerButton => self.machine.board.power.press(Button::Power),
            CoreCommand::Reset => self.begin_reset()?,
            CoreCommand::Boot { .. } => self.boot(Images::take(fds)?)?,
        }
        Ok(())
    }

    /// Lets devices do what can be done now, and the machine what has waited for them.
    pub(crate) fn advance(&mut self, news: News) -> anyhow::Result<()> {
        let mut tell = Vec::new();
        self.devices.advance(news, Instant::now(), &mut tell);
        for event in &tell {
            self.supervisor.event(event)?;
        }
        self.finish_reset_if_quiet()?;
        self.run_if_ready()
    }

    pub(crate) fn answer_bell(&mut self) -> anyhow::Result<()> {
        self.bell.clear();
        self.pump_serial()?;
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::GuestStarted => self.supervisor.event(&CoreEvent::GuestStarted)?,
                Notice::Asked(Request::Reset) => self.begin_reset()?,
                Notice::Asked(Request::PowerOff) => self.end(CoreEvent::PoweredOff)?,
                Notice::Asked(Request::DebugExit(result)) => {
                    self.end(CoreEvent::DebugExit { result })?
                }
                Notice::Debugged { cpu, stop } => self.debugged(cpu, stop),
                Notice::Crashed { cpu, reason } => self.crash(cpu, reason)?,
            }
        }
        self.advance(News::Anything)
    }

    fn pump_serial(&mut self) -> anyhow::Result<()> {
        let wanted = self.serial.pump();
        match (self.serial_watched, wanted) {
            (None, Some(interest)) => self.poller.add(&self.serial, SERIAL, interest)?,
            (Some(_), None) => self.poller.remove(&self.serial)?,
            (Some(before), Some(interest)) if before != interest => {
                self.poller.modify(&self.serial, SERIAL, interest)?;
            }
            _ => {}
        }
        self.serial_watched = wanted;
        Ok(())
    }
}
