//! The debugger: what a gdb process asks, and what stops for it.
//!
//! ```text
//!            Stop, a breakpoint, a step, a crash
//!    Free ─────────────────────────────────────► Stopped      Waits: as Stopped, before the first Resume
//!      ▲   Resume, Detach, channel gone             │         of a machine that was told to wait; a
//!      └────────────────────────────────────────────┘         channel that goes leaves it waiting
//! ```
//!
//! Called by the event loop. All vCPUs stop together; which of them go on, each resume says.
//!
//! Law: core waits for the gdb process never. A message that does not fit its queue, or that is no
//! message, costs that process its channel: the guest then goes on as if there had been no debugger. Each
//! request is bounded: so many bytes, so many breakpoints, a turn of so many requests.

mod memory;
mod registers;
mod requests;
mod walk;

use std::os::fd::OwnedFd;

use anyhow::Context;
use bulkhead_channel::{Channel, ChannelError};
use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_hypervisor::{DebugStop, GuestDebug, Watch};
use bulkhead_protocol::gdb::{DebugReport, DebugRequest, StopReason};
use bulkhead_sys::poller::Interest;

use crate::events::{Core, DEBUGGER};

/// Requests answered before everybody else gets a turn.
const TURN: usize = 16;

/// Whether vCPUs may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// They may.
    Free,
    /// The debugger has them.
    Stopped,
    /// They are kept for a debugger that is to come.
    Waits,
}

/// What core knows of the debugger.
pub struct Debugger {
    channel: Option<Channel>,
    hold: Hold,
    code: Vec<u64>,
    data: Vec<Watch>,
    /// What each vCPU was last told to stop for.
    told: Vec<GuestDebug>,
    /// States of stopped vCPUs that were asked for since they stopped.
    states: Vec<Option<Box<VcpuState>>>,
}

impl Debugger {
    /// No debugger yet; `waits`: the machine is to wait for one.
    pub fn new(cpus: u8, waits: bool) -> Self {
        Self {
            channel: None,
            hold: if waits { Hold::Waits } else { Hold::Free },
            code: Vec::new(),
            data: Vec::new(),
            told: vec![GuestDebug::default(); cpus.into()],
            states: vec![None; cpus.into()],
        }
    }

    /// Whether vCPUs may run, as far as the debugger is concerned.
    pub fn lets_run(&self) -> bool {
        self.hold == Hold::Free
    }

    fn report(&mut self, report: &DebugReport) -> Result<(), ChannelError> {
        match &self.channel {
            Some(channel) => channel.send(report, &[]),
            None => Ok(()),
        }
    }

    /// The vCPUs' states are no longer what they were.
    pub fn forget_states(&mut self) {
        self.states.fill(None);
    }
}

impl Core {
    /// A fresh gdb process's channel.
    pub(crate) fn take_debugger(&mut self, fds: Vec<OwnedFd>) -> anyhow::Result<()> {
        let socket = fds.into_iter().next().context("a debugger without a channel")?;
        self.lose_debugger();
        let channel = Channel::from_fd(socket);
        self.poller.add(&channel, DEBUGGER, Interest::Read).context("watch a debugger")?;
        self.debugger.channel = Some(channel);
        Ok(())
    }

    /// Takes what the gdb process asks.
    pub(crate) fn hear_debugger(&mut self) -> anyhow::Result<()> {
        for _ in 0..TURN {
            let Some(channel) = &self.debugger.channel else { return Ok(()) };
            let request = match channel.try_receive::<DebugRequest>() {
                Ok(Some((request, _))) => request,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.dismiss_debugger(&error);
                    return Ok(());
                }
            };
            let answer = self.answer_debugger(request)?;
            if let Err(error) = self.debugger.report(&DebugReport::Answer(answer)) {
                self.dismiss_debugger(&error);
            }
        }
        Ok(())
    }

    fn dismiss_debugger(&mut self, error: &ChannelError) {
        if !matches!(error, ChannelError::Closed) {
            bulkhead_runtime::log(&format!("core: gdb: {error}"));
        }
        self.lose_debugger();
    }

    /// The gdb process is gone, or good for nothing. Nobody else holds its channel's end here, so that
    /// the poller forgets it.
    fn lose_debugger(&mut self) {
        if self.debugger.channel.take().is_some() && self.debugger.hold != Hold::Waits {
            self.release();
        }
    }

    /// Everything is as if there had been no debugger.
    fn release(&mut self) {
        let was_stopped = !self.debugger.lets_run();
        let was_told = self.debugger.told.iter().any(|told| !told.is_idle());
        self.debugger.code.clear();
        self.debugger.data.clear();
        self.debugger.hold = Hold::Free;
        if !was_stopped && !was_told {
            return;
        }
        self.machine.stop();
        for cpu in 0..self.machine.cpus() {
            if let Err(error) = self.tell_vcpu(cpu, GuestDebug::default()) {
                bulkhead_runtime::log(&format!("core: vCPU {cpu} keeps its breakpoints: {error}"));
            }
        }
        self.set_free(|_| true, true);
    }

    /// Lets these vCPUs run, if nothing else keeps them. `excuse`: the guest was stopped for long.
    fn set_free(&mut self, vcpus: impl Fn(u8) -> bool, excuse: bool) {
        self.debugger.hold = Hold::Free;
        self.debugger.forget_states();
        self.machine.allow(vcpus);
        match self.may_run() {
            true if excuse => self.machine.resume(),
            true => self.machine.run(),
            false => {}
        }
    }

    /// A vCPU has stopped for the debugger. One that stopped while another was told of is met again.
    pub(crate) fn debugged(&mut self, cpu: u8, stop: DebugStop) {
        let why = match stop {
            DebugStop::Step => StopReason::Step,
            DebugStop::Code => StopReason::Code,
            DebugStop::Data(address) => StopReason::Data(address),
        };
        self.stopped(cpu, why);
    }

    /// Stops the machine for a debugger, if there is one, and tells it why: also of a guest that is over.
    pub(crate) fn stopped(&mut self, cpu: u8, why: StopReason) {
        if self.debugger.hold != Hold::Free || self.debugger.channel.is_none() {
            return;
        }
        self.machine.stop();
        self.debugger.hold = Hold::Stopped;
        self.debugger.forget_states();
        match self.debugger.report(&DebugReport::Stopped { cpu, why }) {
            Ok(()) => {}
            Err(error) => self.dismiss_debugger(&error),
        }
    }
}
