//! One vCPU in the kernel.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_xsave};
use kvm_ioctls::VcpuFd;

use super::decode::decode;
use super::kick::KvmKick;
use crate::debug::GuestDebug;
use crate::engine::{Kick, Vcpu};
use crate::error::EngineError;
use crate::exit::Exit;
use crate::x86_64::{VcpuState, Xsave, processor};

/// A vCPU. Bound to the thread that runs it first (see [`super::kick`]).
pub(super) struct KvmVcpu {
    fd: ManuallyDrop<VcpuFd>,
    kick: Arc<KvmKick>,
    /// Registers of our table that this host has.
    msrs: Vec<u32>,
    /// What it was last told to stop for.
    debug: GuestDebug,
    blocks_interrupts: bool,
}

impl KvmVcpu {
    /// Takes a vCPU whose CPUID is set, and puts its registers to their power-on values. `msrs` are
    /// those of our table that this host may have; the ones that it has stay.
    pub(super) fn new(
        fd: VcpuFd,
        msrs: &mut Vec<u32>,
        blocks_interrupts: bool,
    ) -> Result<Self, EngineError> {
        let (kick, debug) = (Arc::new(KvmKick::new()), GuestDebug::default());
        let fd = ManuallyDrop::new(fd);
        let mut vcpu = Self { fd, kick, msrs: Vec::new(), debug, blocks_interrupts };
        vcpu.drop_absent(msrs)?;
        vcpu.msrs.clone_from(msrs);
        let present = |msr: &&kvm_msr_entry| vcpu.msrs.contains(&msr.index);
        let power_on = processor::power_on_msrs();
        let power_on: Vec<_> = power_on.iter().filter(present).copied().collect();
        vcpu.set_msrs(&power_on)?;
        Ok(vcpu)
    }

    /// The kernel reads registers up to the first that does not exist, and says how many it read.
    fn drop_absent(&self, msrs: &mut Vec<u32>) -> Result<(), EngineError> {
        loop {
            match self.get_msrs(msrs)?.len() {
                count if count < msrs.len() => drop(msrs.remove(count)),
                _ => return Ok(()),
            }
        }
    }

    /// Reads registers up to the first that does not exist.
    fn get_msrs(&self, indices: &[u32]) -> Result<Vec<kvm_msr_entry>, EngineError> {
        let entries: Vec<_> = indices
            .iter()
            .map(|index| kvm_msr_entry { index: *index, ..Default::default() })
            .collect();
        let mut msrs =
            Msrs::from_entries(&entries).map_err(|_| EngineError::Bug("too many MSRs"))?;
        let count = self.fd.get_msrs(&mut msrs).map_err(EngineError::host("read MSRs"))?;
        Ok(msrs.as_slice().iter().take(count).copied().collect())
    }

    fn set_msrs(&self, entries: &[kvm_msr_entry]) -> Result<(), EngineError> {
        let msrs = Msrs::from_entries(entries).map_err(|_| EngineError::Bug("too many MSRs"))?;
        let count = self.fd.set_msrs(&msrs).map_err(EngineError::host("write MSRs"))?;
        match entries.get(count) {
            Some(refused) => Err(EngineError::Msr { index: refused.index, value: refused.data }),
            None => Ok(()),
        }
    }

    fn set_vector_registers(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        let xsave = kvm_xsave { region: state.xsave.0, ..Default::default() };
        // SAFETY: the kernel reads 4 KiB, as much as there is, unless a process asked for AMX, which
        // this one never does.
        let set = unsafe { self.fd.set_xsave(&xsave) };
        set.map_err(EngineError::host("set vector registers"))
    }

    fn immediate_exit(&mut self) -> &AtomicU8 {
        let flag = &raw mut self.fd.get_kvm_run().immediate_exit;
        // SAFETY: the run page lives as long as the vCPU, a byte is always aligned, and besides us
        // only the kick handler on this thread and the kernel touch it.
        unsafe { AtomicU8::from_ptr(flag) }
    }

    /// Enters the guest; `false` if a kick or a signal ended the run.
    fn enter(&mut self) -> Result<bool, EngineError> {
        let result = self.fd.run().map(drop);
        match result {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(false),
            Err(error) => Err(EngineError::host("run a vCPU")(error)),
        }
    }

    /// Lets the kernel finish the access that the last exit reported, executing nothing further.
    fn complete_access(&mut self) -> Result<(), EngineError> {
        self.immediate_exit().store(1, Ordering::Relaxed);
        let result = self.enter();
        self.immediate_exit().store(0, Ordering::Relaxed);
        result.map(drop)
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<Exit<'_>, EngineError> {
        let flag: *const AtomicU8 = self.immediate_exit();
        self.kick.bind(flag);
        if self.kick.take() || !self.enter()? {
            self.immediate_exit().store(0, Ordering::Relaxed);
            self.kick.take();
            return Ok(Exit::Interrupted);
        }
        Ok(decode(self.fd.get_kvm_run(), &self.debug))
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn state(&mut self) -> Result<Box<VcpuState>, EngineError> {
        self.complete_access()?;
        let mut state = Box::<VcpuState>::default();
        let read = |what| EngineError::host(what);
        state.mp_state = self.fd.get_mp_state().map_err(read("read a vCPU's run state"))?;
        state.regs = self.fd.get_regs().map_err(read("read registers"))?;
        state.sregs = self.fd.get_sregs().map_err(read("read segments"))?;
        let xsave = self.fd.get_xsave().map_err(read("read vector registers"))?;
        state.xsave = Xsave(xsave.region);
        state.xcrs = self.fd.get_xcrs().map_err(read("read XCR0"))?;
        state.debug = self.fd.get_debug_regs().map_err(read("read debug registers"))?;
        state.lapic = self.fd.get_lapic().map_err(read("read the local APIC"))?;
        state.msrs = self.get_msrs(&self.msrs)?;
        state.events = self.fd.get_vcpu_events().map_err(read("read pending events"))?;
        Ok(state)
    }

    fn excuse_pause(&mut self) {
        // The only refusal is that the guest has no kvmclock.
        let _ = self.fd.kvmclock_ctrl();
    }

    fn set_registers(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        self.complete_access()?;
        let write = |what| EngineError::host(what);
        self.fd.set_regs(&state.regs).map_err(write("set registers"))?;
        self.fd.set_sregs(&state.sregs).map_err(write("set segments"))?;
        self.set_vector_registers(state)
    }

    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), EngineError> {
        let control = super::debug::control(debug, self.blocks_interrupts)?;
        self.fd.set_guest_debug(&control).map_err(EngineError::host("set breakpoints"))?;
        self.debug = debug.clone();
        Ok(())
    }

    /// The order matters: XCR0 decides what XSAVE may hold, the APIC's base and mode (in the segments'
    /// block) come before its registers, and those before the deadline among the MSRs.
    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        self.complete_access()?;
        let write = |what| EngineError::host(what);
        self.fd.set_mp_state(state.mp_state).map_err(write("set a vCPU's run state"))?;
        self.fd.set_regs(&state.regs).map_err(write("set registers"))?;
        self.fd.set_sregs(&state.sregs).map_err(write("set segments"))?;
        self.fd.set_xcrs(&state.xcrs).map_err(write("set XCR0"))?;
        self.set_vector_registers(state)?;
        self.fd.set_debug_regs(&state.debug).map_err(write("set debug registers"))?;
        self.fd.set_lapic(&state.lapic).map_err(write("set the local APIC"))?;
        self.set_msrs(&state.msrs)?;
        self.fd.set_vcpu_events(&state.events).map_err(write("set pending events"))
    }
}

impl Drop for KvmVcpu {
    /// The run page is unmapped only where no handler can still write to it: on the thread that is
    /// bound to it, or if none ever was. Elsewhere it is leaked.
    fn drop(&mut self) {
        let flag: *const AtomicU8 = self.immediate_exit();
        if self.kick.unbind(flag) {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}
