//! The life of the machine, as the supervisor commands it and the guest changes it.
//!
//! ```text
//!            Run, devices up          guest, Reset              devices quiet           Boot
//!  Loaded ──────────────────► Running ─────────────► Resetting ────────────► Reset ─────────► Loaded
//!                           │   ▲ │                      ▲        (a kernel is there already: Loaded)
//!                     crash ▼   │ └─ power-off ─► Over ──┤ Reset, Boot
//!                       Crashed ┴──── Resume             │
//!                           └────────────────────────────┘
//! ```
//!
//! Pausing is beside it: a held machine's vCPUs do not run in any state, nor do those that a debugger
//! has stopped.

use bulkhead_protocol::core::CoreEvent;
use bulkhead_protocol::crash::Crash;
use bulkhead_protocol::gdb::StopReason;

use crate::devices::News;
use crate::events::Core;
use crate::plan::Images;

/// Where the machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// A kernel is loaded.
    Loaded {
        /// The vCPUs are to run as soon as all devices are up.
        run: bool,
    },
    /// The guest runs, or is held.
    Running,
    /// vCPUs are stopped; some device may still write to guest memory.
    Resetting,
    /// Nothing runs; a kernel is awaited.
    Reset,
    /// Crashed. Memory and vCPUs are left as they are; resumed, the vCPUs go on where they stand, most
    /// often into the same crash.
    Crashed,
    /// Powered off. Memory and vCPUs are left as they are until somebody boots again.
    Over,
}

/// What changes it. Every command is answered here, in every state.
impl Core {
    pub(crate) fn want_run(&mut self) -> anyhow::Result<()> {
        if let Life::Loaded { run } = &mut self.life {
            *run = true;
        }
        self.run_if_ready()
    }

    pub(crate) fn run_if_ready(&mut self) -> anyhow::Result<()> {
        if self.life == (Life::Loaded { run: true }) && self.devices.are_known() {
            self.life = Life::Running;
            if self.may_run() {
                self.machine.run();
            }
            self.supervisor.event(&CoreEvent::Running)?;
        }
        Ok(())
    }

    /// Whether vCPUs may be in the guest.
    pub(crate) fn may_run(&self) -> bool {
        self.life == Life::Running && !self.held && self.debugger.lets_run()
    }

    pub(crate) fn pause(&mut self) -> anyhow::Result<()> {
        self.held = true;
        self.machine.stop();
        Ok(self.supervisor.event(&CoreEvent::Paused)?)
    }

    pub(crate) fn resume(&mut self) -> anyhow::Result<()> {
        let was_held = std::mem::take(&mut self.held);
        let was_crashed = self.life == Life::Crashed;
        if was_crashed {
            self.life = Life::Running;
        }
        if (was_held || was_crashed) && self.may_run() {
            self.machine.resume();
        }
        Ok(self.supervisor.event(&CoreEvent::Resumed)?)
    }

    /// A reset that the guest or the supervisor asks for.
    pub(crate) fn begin_reset(&mut self) -> anyhow::Result<()> {
        match self.life {
            Life::Running | Life::Crashed | Life::Over => self.reset(),
            Life::Loaded { .. } | Life::Resetting | Life::Reset => Ok(()),
        }
    }

    /// Stops everything. What backends have in flight they finish before the guest's memory is anyone
    /// else's: an old request must not write into the next kernel.
    fn reset(&mut self) -> anyhow::Result<()> {
        self.machine.stop();
        self.machine.board.reset();
        self.life = Life::Resetting;
        self.advance(News::Anything)
    }

    /// Boots what the supervisor has sent already, or asks it for a kernel; it may as well end the
    /// machine.
    pub(crate) fn finish_reset_if_quiet(&mut self) -> anyhow::Result<()> {
        if self.life == Life::Resetting && self.devices.are_at_rest() {
            self.life = Life::Reset;
            match self.next.take() {
                Some(images) => self.load(&images)?,
                None => self.supervisor.event(&CoreEvent::ResetRequested)?,
            }
        }
        Ok(())
    }

    /// Boots again, after a reset where there was none.
    pub(crate) fn boot(&mut self, images: Images) -> anyhow::Result<()> {
        match self.life {
            Life::Reset | Life::Loaded { .. } => return self.load(&images),
            Life::Resetting => self.next = Some(images),
            Life::Running | Life::Crashed | Life::Over => {
                self.next = Some(images);
                self.reset()?;
            }
        }
        Ok(())
    }

    fn load(&mut self, images: &Images) -> anyhow::Result<()> {
        self.debugger.forget_states();
        match self.machine.load(images, &|| self.supervisor.breathe(self.machine.progress())) {
            Ok(()) => {
                self.life = Life::Loaded { run: true };
                self.run_if_ready()
            }
            Err(error) => {
                self.life = Life::Over;
                Ok(self.supervisor.event(&error.refusal())?)
            }
        }
    }

    /// The guest crashed. Of several vCPUs that crash together the first is told of.
    pub(crate) fn crash(&mut self, cpu: u8, reason: String) -> anyhow::Result<()> {
        if self.life != Life::Running {
            return Ok(());
        }
        self.machine.stop();
        self.life = Life::Crashed;
        self.stopped(cpu, StopReason::Crashed);
        let registers = self.machine.registers(cpu);
        let crash = Crash { vcpu: cpu.into(), reason, registers };
        Ok(self.supervisor.event(&CoreEvent::Crashed(crash))?)
    }

    /// The guest is over. A notice that comes after that, or after a reset, is about nobody.
    pub(crate) fn end(&mut self, event: CoreEvent) -> anyhow::Result<()> {
        if matches!(self.life, Life::Running | Life::Crashed) {
            self.machine.stop();
            self.life = Life::Over;
            self.stopped(0, StopReason::Over);
            self.supervisor.event(&event)?;
        }
        Ok(())
    }
}
