//! The guest as `gdbstub` drives it: each method is a request to core.
//!
//! Threads are vCPUs, numbered from 1. Law: nothing here panics or allocates by what a client says; what
//! core refuses is an error to the client.

use std::num::NonZeroUsize;

use bulkhead_protocol::gdb::{DebugAnswer, DebugRequest, MOST_BYTES, Motion};
use gdbstub::arch::Arch;
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints as BreakpointsOp, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint,
    HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use crate::breakpoints::{Breakpoints, Kind};
use crate::description;
use crate::fault::Fault;
use crate::link::Link;
use crate::registers::Registers;

/// What a client gets for an address where nothing is, and for what it may not (`EFAULT`, `EPERM`).
const NOTHING_THERE: u8 = 14;
const NOT_PERMITTED: u8 = 1;

/// Bytes that one packet may have read. gdb asks for as many as fit its packet.
const MOST_OF_A_PACKET: usize = 64 << 10;

/// The processor, as `gdbstub` knows processors.
#[derive(Debug)]
pub enum Amd64 {}

impl Arch for Amd64 {
    type Usize = u64;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = ();
}

/// One client's view of the machine.
pub struct Guest<'l> {
    link: &'l mut Link,
    /// What it has set.
    pub breakpoints: Breakpoints,
    /// What each vCPU was told to do, and what those do that were not told.
    motions: Vec<Option<Motion>>,
    otherwise: Motion,
    description: String,
    /// The thread that stopped last.
    last: Tid,
    /// Bytes read for the packet at hand.
    read: usize,
}

/// The thread of a vCPU.
pub fn thread(cpu: u8) -> Tid {
    NonZeroUsize::MIN.saturating_add(cpu.into())
}

impl<'l> Guest<'l> {
    /// With no breakpoint set.
    pub fn new(link: &'l mut Link) -> Self {
        let (motions, otherwise) = (vec![None; link.vcpus.into()], Motion::Run);
        let (breakpoints, description) = (Breakpoints::default(), description::xml());
        Self { link, breakpoints, motions, otherwise, description, last: thread(0), read: 0 }
    }

    /// The way to core.
    pub fn link(&mut self) -> &mut Link {
        self.link
    }

    /// A packet may begin.
    pub fn begin_packet(&mut self) {
        self.read = 0;
    }

    /// The thread that stopped last.
    pub fn last_thread(&self) -> Tid {
        self.last
    }

    /// A thread has stopped.
    pub fn note_thread(&mut self, tid: Tid) {
        self.last = tid;
    }

    /// What a client is told of a vCPU at a breakpoint.
    pub fn breakpoint_reason(&mut self, cpu: u8) -> Result<MultiThreadStopReason<u64>, Fault> {
        let tid = thread(cpu);
        Ok(match self.link.ask(&DebugRequest::Registers { cpu })? {
            DebugAnswer::Registers(registers) => self.breakpoints.reason(tid, registers.rip),
            _ => MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP },
        })
    }

    fn cpu(&self, tid: Tid) -> TargetResult<u8, Self> {
        let cpu = u8::try_from(tid.get() - 1).ok().filter(|cpu| *cpu < self.link.vcpus);
        cpu.ok_or(TargetError::NonFatal)
    }

    fn set_motion(&mut self, tid: Tid, motion: Motion) {
        if let Some(place) = self.motions.get_mut(tid.get() - 1) {
            *place = Some(motion);
        }
    }
}

/// A refusal is the client's; everything else ends the process.
fn told<T>(outcome: Result<T, Fault>, errno: u8) -> Result<T, TargetError<Fault>> {
    outcome.map_err(|fault| match fault.is_the_clients() {
        true => TargetError::Errno(errno),
        false => TargetError::Fatal(fault),
    })
}

impl Target for Guest<'_> {
    type Arch = Amd64;
    type Error = Fault;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    /// The way is short, and what is sent can be read.
    fn use_rle(&self) -> bool {
        false
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl TargetDescriptionXmlOverride for Guest<'_> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.description.as_bytes().get(offset..).unwrap_or_default();
        let count = rest.len().min(length).min(buf.len());
        buf.iter_mut().zip(rest).take(count).for_each(|(to, from)| *to = *from);
        Ok(count)
    }
}

impl MultiThreadBase for Guest<'_> {
    fn read_registers(&mut self, registers: &mut Registers, tid: Tid) -> TargetResult<(), Self> {
        let cpu = self.cpu(tid)?;
        match told(self.link.ask(&DebugRequest::Registers { cpu }), NOT_PERMITTED)? {
            DebugAnswer::Registers(all) => *registers = Registers(*all),
            _ => return Err(TargetError::NonFatal),
        }
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers, tid: Tid) -> TargetResult<(), Self> {
        let cpu = self.cpu(tid)?;
        let mut before = Registers::default();
        self.read_registers(&mut before, tid)?;
        if !registers.has_same_mode(&before) {
            return Err(TargetError::Errno(NOT_PERMITTED));
        }
        // gdb knows the area in part.
        let mut wanted = registers.0.clone();
        for (to, from) in wanted.fx.iter_mut().zip(&before.0.fx).skip(416) {
            *to = *from;
        }
        let request = DebugRequest::SetRegisters { cpu, registers: Box::new(wanted) };
        told(self.link.order(&request), NOT_PERMITTED)
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let cpu = self.cpu(tid)?;
        self.read = self.read.saturating_add(data.len());
        // `gdbstub` goes on behind the last byte by adding.
        let wraps = address.checked_add(data.len() as u64).is_none();
        if wraps || self.read > MOST_OF_A_PACKET {
            return Err(TargetError::Errno(NOTHING_THERE));
        }
        let mut done = 0;
        for piece in data.chunks_mut(MOST_BYTES) {
            let (at, len) = (address + done as u64, piece.len() as u16);
            let answer = self.link.ask(&DebugRequest::Read { cpu, address: at, len });
            let DebugAnswer::Memory(bytes) = told(answer, NOTHING_THERE)? else { break };
            piece.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            done += bytes.len().min(piece.len());
            if bytes.len() < piece.len() {
                break;
            }
        }
        if done == 0 { Err(TargetError::Errno(NOTHING_THERE)) } else { Ok(done) }
    }

    fn write_addrs(&mut self, address: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let cpu = self.cpu(tid)?;
        for (piece, number) in data.chunks(MOST_BYTES).zip(0u64..) {
            let at = address.checked_add(number * MOST_BYTES as u64);
            let address = at.ok_or(TargetError::Errno(NOTHING_THERE))?;
            let request = DebugRequest::Write { cpu, address, bytes: piece.to_vec() };
            told(self.link.order(&request), NOTHING_THERE)?;
        }
        Ok(())
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), Fault> {
        // The first one listed is what gdb takes for the one that stopped, when it has just connected.
        is_active(self.last);
        (0..self.link.vcpus).map(thread).filter(|tid| *tid != self.last).for_each(is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Guest<'_> {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Fault> {
        let text = format!("vCPU {}", tid.get() - 1);
        let count = text.len().min(buf.len());
        buf.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Ok(count)
    }
}

impl MultiThreadResume for Guest<'_> {
    fn resume(&mut self) -> Result<(), Fault> {
        let motions = self.motions.iter().map(|motion| motion.unwrap_or(self.otherwise));
        self.link.order(&DebugRequest::Resume(motions.collect()))
    }

    fn clear_resume_actions(&mut self) -> Result<(), Fault> {
        self.motions.fill(None);
        self.otherwise = Motion::Run;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Fault> {
        self.set_motion(tid, Motion::Run);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Fault> {
        self.set_motion(tid, Motion::Step);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Fault> {
        self.otherwise = Motion::Stay;
        Ok(())
    }
}

impl BreakpointsOp for Guest<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        told(self.breakpoints.add(self.link, address, Kind::Software), NOT_PERMITTED)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        told(self.breakpoints.remove(self.link, address, Kind::Software), NOT_PERMITTED)
    }
}

impl HwBreakpoint for Guest<'_> {
    fn add_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        told(self.breakpoints.add(self.link, address, Kind::Hardware), NOT_PERMITTED)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        told(self.breakpoints.remove(self.link, address, Kind::Hardware), NOT_PERMITTED)
    }
}

impl HwWatchpoint for Guest<'_> {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        told(self.breakpoints.watch(self.link, address, len, kind), NOT_PERMITTED)
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        told(self.breakpoints.unwatch(self.link, address, len, kind), NOT_PERMITTED)
    }
}
