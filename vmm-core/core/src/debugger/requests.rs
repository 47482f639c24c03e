//! One request of the gdb process, decoded: what is done, and the answer.

use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_hypervisor::{EngineError, GuestDebug, Watch};
use bulkhead_protocol::gdb::{
    Breakpoint, DebugAnswer, DebugRegisters, DebugRequest, MOST_BYTES, Motion,
};

use super::{Hold, memory, registers};
use crate::events::Core;

/// Breakpoints and watches that are kept.
const MOST_BREAKPOINTS: usize = 1024;

/// Watches that are kept: each is looked at with every access.
const MOST_WATCHES: usize = 64;

/// What a request comes to; a refusal says why.
type Outcome = Result<DebugAnswer, String>;

impl Core {
    pub(super) fn answer_debugger(&mut self, request: DebugRequest) -> anyhow::Result<DebugAnswer> {
        if request == DebugRequest::Stop {
            self.stop_for_debugger()?;
            return Ok(DebugAnswer::Done);
        }
        let outcome = match request {
            DebugRequest::Detach => {
                self.release();
                Ok(DebugAnswer::Done)
            }
            _ if self.debugger.lets_run() => Err("the machine runs".to_owned()),
            stopped => self.answer_stopped(stopped),
        };
        Ok(outcome.unwrap_or_else(DebugAnswer::Refused))
    }

    fn answer_stopped(&mut self, request: DebugRequest) -> Outcome {
        match request {
            DebugRequest::Stop | DebugRequest::Detach => Ok(DebugAnswer::Done),
            DebugRequest::Resume(motions) => self.resume_for_debugger(&motions),
            DebugRequest::Registers { cpu } => {
                let registers = registers::of(self.state_of(cpu)?);
                Ok(DebugAnswer::Registers(Box::new(registers)))
            }
            DebugRequest::SetRegisters { cpu, registers } => self.set_registers(cpu, &registers),
            DebugRequest::Read { cpu, address, len } => {
                let len = usize::from(len).min(MOST_BYTES);
                let sregs = self.state_of(cpu)?.sregs;
                let bytes = memory::read(self.machine.memory(), &sregs, address, len);
                bytes.map(DebugAnswer::Memory).ok_or_else(|| unmapped(address))
            }
            DebugRequest::Write { cpu, address, bytes } => {
                let sregs = self.state_of(cpu)?.sregs;
                let ram = self.machine.memory();
                let pieces = memory::write(ram, &sregs, address, &bytes);
                for (physical, len) in pieces.ok_or_else(|| unmapped(address))? {
                    self.machine
                        .vm
                        .code_changed(physical, len)
                        .map_err(|error| error.to_string())?;
                }
                Ok(DebugAnswer::Done)
            }
            DebugRequest::Break(breakpoint) => self.set_breakpoint(breakpoint),
            DebugRequest::Unbreak(breakpoint) => {
                match breakpoint {
                    Breakpoint::Code(address) => {
                        self.debugger.code.retain(|other| *other != address);
                    }
                    Breakpoint::Data { address, len, reads } => {
                        let watch = Watch { address, len, reads };
                        self.debugger.data.retain(|other| *other != watch);
                    }
                }
                Ok(DebugAnswer::Done)
            }
        }
    }

    /// A vCPU that has stopped by itself meanwhile is told of before the answer.
    fn stop_for_debugger(&mut self) -> anyhow::Result<()> {
        self.machine.stop();
        self.answer_bell()?;
        if self.debugger.hold == Hold::Free {
            self.debugger.hold = Hold::Stopped;
            self.debugger.forget_states();
        }
        // Answering may have let it go on.
        self.machine.stop();
        Ok(())
    }

    fn resume_for_debugger(&mut self, motions: &[Motion]) -> Outcome {
        if motions.len() != usize::from(self.machine.cpus()) {
            return Err(format!("{} motions of {} vCPUs", motions.len(), self.machine.cpus()));
        }
        for (cpu, motion) in (0..).zip(motions) {
            let wish = GuestDebug {
                steps: *motion == Motion::Step,
                code: self.debugger.code.clone(),
                data: self.debugger.data.clone(),
            };
            if *motion != Motion::Stay {
                self.tell_vcpu(cpu, wish).map_err(|error| error.to_string())?;
            }
        }
        let moves = |cpu| motions.get(usize::from(cpu)).is_some_and(|it| *it != Motion::Stay);
        self.set_free(moves, motions.contains(&Motion::Run));
        Ok(DebugAnswer::Done)
    }

    /// Tells a stopped vCPU what to stop for, if that is news.
    pub(super) fn tell_vcpu(&mut self, cpu: u8, wish: GuestDebug) -> Result<(), EngineError> {
        let told = self.debugger.told.get_mut(usize::from(cpu));
        let (Some(told), Some(mut vcpu)) = (told, self.machine.vcpu(cpu)) else {
            return Err(EngineError::Bug("a vCPU that there is not"));
        };
        if *told != wish {
            vcpu.set_guest_debug(&wish)?;
            *told = wish;
        }
        Ok(())
    }

    fn state_of(&mut self, cpu: u8) -> Result<&mut VcpuState, String> {
        let kept = self.debugger.states.get_mut(usize::from(cpu));
        let (Some(kept), Some(mut vcpu)) = (kept, self.machine.vcpu(cpu)) else {
            return Err(format!("there is no vCPU {cpu}"));
        };
        if kept.is_none() {
            *kept = Some(vcpu.state().map_err(|error| error.to_string())?);
        }
        kept.as_deref_mut().ok_or_else(|| "no state".to_owned())
    }

    fn set_registers(&mut self, cpu: u8, registers: &DebugRegisters) -> Outcome {
        let mut state = self.state_of(cpu)?.clone();
        registers::change(&mut state, registers)?;
        let Some(mut vcpu) = self.machine.vcpu(cpu) else {
            return Err(format!("there is no vCPU {cpu}"));
        };
        let set = vcpu.set_registers(&state);
        drop(vcpu);
        // What the engine has made of them is asked anew.
        self.debugger.forget_states();
        set.map(|()| DebugAnswer::Done).map_err(|error| error.to_string())
    }

    fn set_breakpoint(&mut self, breakpoint: Breakpoint) -> Outcome {
        let debugger = &mut self.debugger;
        let is_new = match breakpoint {
            Breakpoint::Code(address) => !debugger.code.contains(&address),
            Breakpoint::Data { address, len, reads } => {
                let watch = Watch { address, len, reads };
                if !watch.is_sound() {
                    return Err(format!("{len} bytes at {address:#x} cannot be watched"));
                }
                !debugger.data.contains(&watch)
            }
        };
        let count = debugger.code.len() + debugger.data.len() + usize::from(is_new);
        if let Some(limit) = self.machine.vm.breakpoint_limit().filter(|limit| count > *limit) {
            return Err(EngineError::Breakpoints { limit, wanted: count }.to_string());
        }
        match breakpoint {
            _ if !is_new => {}
            Breakpoint::Code(_) if count > MOST_BREAKPOINTS => {
                return Err(format!("{MOST_BREAKPOINTS} breakpoints are the most"));
            }
            Breakpoint::Data { .. } if debugger.data.len() >= MOST_WATCHES => {
                return Err(format!("{MOST_WATCHES} watches are the most"));
            }
            Breakpoint::Code(address) => debugger.code.push(address),
            Breakpoint::Data { address, len, reads } => {
                debugger.data.push(Watch { address, len, reads });
            }
        }
        Ok(DebugAnswer::Done)
    }
}

fn unmapped(address: u64) -> String {
    format!("no memory is mapped at {address:#x}")
}
