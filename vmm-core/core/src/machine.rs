//! The whole machine: engine, board, vCPUs, and how they are brought to their first instruction.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_boot::{Boot, BootError};
use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_hypervisor::{EngineError, Hypervisor, Vcpu, Vm};
use bulkhead_machine::uart::Wake;
use bulkhead_machine::{Request, Requests};
use bulkhead_memory::{GuestMemory, RamLayout};
use bulkhead_protocol::core::CoreEvent;
use bulkhead_protocol::crash::{Registers, Word};

use crate::board::{Board, BoardError};
use crate::gate::Gate;
use crate::notice::{Notice, Notices};
use crate::plan::Images;
use crate::vcpu::{Exits, Seat, SharedVcpu};

/// Why the machine cannot be made or started.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The host is to blame, or the engine's process.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The user's files or options are to blame.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// We are to blame.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The user chose a port that has an owner.
    #[error("port {0:#x} or one of the three after it is another device's")]
    DebugExit(u16),
}

impl MachineError {
    /// As the supervisor is told.
    pub fn refusal(&self) -> CoreEvent {
        let (option, remedy) = match self {
            Self::Boot(error) => (error.option(), error.remedy()),
            Self::Engine(EngineError::Unsupported { .. } | EngineError::NotKvm { .. }) => {
                ("/dev/kvm", "use a host whose KVM has it (Linux 4.15 or newer), or --cpu soft")
            }
            Self::Engine(EngineError::Host { .. } | EngineError::Msr { .. }) => {
                ("/dev/kvm", "look into the log of the host's kernel, or take --cpu soft")
            }
            Self::Engine(EngineError::HostCpu { .. }) => ("--cpu", "take --cpu kvm"),
            Self::Engine(EngineError::Gone | EngineError::Remote { .. }) => {
                ("--cpu", "see what soft-cpu said before, or take --cpu kvm")
            }
            Self::Engine(EngineError::NoGsiLeft { .. }) => {
                ("--disk", "give fewer devices or queues")
            }
            Self::Engine(EngineError::Breakpoints { .. }) => ("--gdb", "set fewer breakpoints"),
            Self::Engine(EngineError::Bug(_)) => ("run", "report this"),
            Self::Board(_) => ("run", "report this"),
            Self::DebugExit(_) => ("--debug-exit", "choose another port, e.g. 0xf4"),
        };
        CoreEvent::Refused {
            option: option.into(),
            reason: self.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// The machine. Nothing here waits, except for vCPUs to leave the guest.
pub struct Machine {
    /// The engine's side of it.
    pub vm: Arc<dyn Vm>,
    /// The devices.
    pub board: Arc<Board>,
    memory: GuestMemory,
    layout: RamLayout,
    append: String,
    vcpus: Vec<SharedVcpu>,
    /// Each vCPU as at power-on, to be put back on a reset.
    power_on: Vec<Box<VcpuState>>,
    gate: Arc<Gate>,
    exits: Arc<Exits>,
}

/// What a machine is made of.
pub struct Parts {
    /// The engine.
    pub engine: Box<dyn Hypervisor>,
    /// vCPUs.
    pub cpus: u8,
    /// RAM, mapped.
    pub memory: GuestMemory,
    /// Where it lies.
    pub layout: RamLayout,
    /// Kernel command line.
    pub append: String,
    /// The port of a debug-exit device.
    pub debug_exit: Option<u16>,
}

impl Machine {
    /// Makes it, with its vCPUs stopped before their first instruction and nothing in RAM.
    pub fn new(parts: Parts, notices: &Notices, wake: Wake) -> Result<Self, MachineError> {
        let Parts { engine, cpus, memory, layout, append, debug_exit } = parts;
        let vm = engine.create_vm(&memory)?;
        let mut vcpus = Vec::new();
        for index in 0..cpus {
            vcpus.push(vm.create_vcpu(index, cpus)?);
        }
        let power_on = vcpus.iter_mut().map(|vcpu| vcpu.state()).collect::<Result<_, _>>()?;
        let gate = Gate::new(vcpus.iter().map(|vcpu| vcpu.kick_handle()).collect());
        let requests = requests(&gate, notices);
        let board = Arc::new(Board::new(Arc::clone(&vm), wake, &requests)?);
        if let Some(port) = debug_exit {
            let added = board.add_debug_exit(port, &requests);
            added.map_err(|_| MachineError::DebugExit(port))?;
        }
        let exits = Arc::new(Exits {
            pio: Arc::clone(&board.pio),
            mmio: Arc::clone(&board.mmio),
            ioapic: Arc::clone(&board.ioapic),
            notices: notices.clone(),
            started: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        });
        let vcpus = vcpus.into_iter().map(|vcpu| Arc::new(Mutex::new(vcpu))).collect();
        Ok(Self { vm, board, memory, layout, append, vcpus, power_on, gate, exits })
    }

    /// A place for each vCPU thread.
    pub fn seats(&self) -> Vec<Seat> {
        let seat = |(index, vcpu): (u8, &SharedVcpu)| Seat {
            index,
            vcpu: Arc::clone(vcpu),
            gate: Arc::clone(&self.gate),
            exits: Arc::clone(&self.exits),
        };
        (0..).zip(&self.vcpus).map(seat).collect()
    }

    /// Loads a kernel and puts the vCPUs before its first instruction. They must be stopped. Calls
    /// `breathe` again and again, since it may take long.
    pub fn load(&self, images: &Images, breathe: &dyn Fn()) -> Result<(), MachineError> {
        let entry = bulkhead_boot::load(&Boot {
            kernel: &images.kernel,
            initrd: images.initrd.as_ref(),
            command_line: &self.append,
            memory: &self.memory,
            layout: &self.layout,
            cpus: self.cpus(),
            breathe,
        })?;
        for (index, (vcpu, power_on)) in self.vcpus.iter().zip(&self.power_on).enumerate() {
            let mut state = power_on.clone();
            if index == 0 {
                entry.apply(&mut state);
            }
            hold(vcpu).set_state(&state)?;
        }
        Ok(())
    }

    /// Lets the vCPUs run.
    pub fn run(&self) {
        self.gate.open();
    }

    /// Stops the vCPUs and returns when none is in the guest.
    pub fn stop(&self) {
        self.gate.shut();
        self.gate.wait_empty();
    }

    /// Lets the vCPUs run after a stop that the guest had no part in.
    pub fn resume(&self) {
        for vcpu in &self.vcpus {
            hold(vcpu).excuse_pause();
        }
        self.run();
    }

    /// Says which vCPUs an open machine runs. They must be stopped.
    pub fn allow(&self, vcpus: impl Fn(u8) -> bool) {
        self.gate.allow(vcpus);
    }

    /// vCPUs.
    pub fn cpus(&self) -> u8 {
        u8::try_from(self.vcpus.len()).unwrap_or(u8::MAX)
    }

    /// A stopped vCPU. One that runs would be waited for.
    pub fn vcpu(&self, cpu: u8) -> Option<MutexGuard<'_, Box<dyn Vcpu>>> {
        self.vcpus.get(usize::from(cpu)).map(hold)
    }

    /// RAM.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The general registers of a stopped vCPU.
    pub fn registers(&self, cpu: u8) -> Option<Registers> {
        let state = hold(self.vcpus.get(usize::from(cpu))?).state().ok()?;
        let regs = &state.regs;
        Some(Registers {
            rip: Word(regs.rip),
            rflags: Word(regs.rflags),
            rax: Word(regs.rax),
            rbx: Word(regs.rbx),
            rcx: Word(regs.rcx),
            rdx: Word(regs.rdx),
            rsi: Word(regs.rsi),
            rdi: Word(regs.rdi),
            rbp: Word(regs.rbp),
            rsp: Word(regs.rsp),
            r8: Word(regs.r8),
            r9: Word(regs.r9),
            r10: Word(regs.r10),
            r11: Word(regs.r11),
            r12: Word(regs.r12),
            r13: Word(regs.r13),
            r14: Word(regs.r14),
            r15: Word(regs.r15),
        })
    }

    /// Exits answered so far.
    pub fn progress(&self) -> u64 {
        self.exits.answered.load(Ordering::Relaxed)
    }
}

/// What happens when the guest asks: its vCPUs stop at once, the event loop does the rest. It is told
/// even if the gate was shut a moment before: the guest will not ask again.
fn requests(gate: &Arc<Gate>, notices: &Notices) -> Requests {
    let (gate, notices) = (Arc::clone(gate), notices.clone());
    Arc::new(move |request: Request| {
        gate.shut();
        notices.tell(Notice::Asked(request));
    })
}

fn hold(vcpu: &SharedVcpu) -> MutexGuard<'_, Box<dyn Vcpu>> {
    vcpu.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option_of(error: EngineError) -> String {
        match MachineError::from(error).refusal() {
            CoreEvent::Refused { option, .. } => option,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_kvm_is_blamed_for_what_kvm_did() {
        let remote = EngineError::Remote { action: "obey", reason: "no".into() };
        assert_eq!(option_of(remote), "--cpu");
        assert_eq!(option_of(EngineError::Gone), "--cpu");
        assert_eq!(option_of(EngineError::HostCpu { missing: "AES-NI" }), "--cpu");
        assert_eq!(option_of(EngineError::NotKvm { version: 1 }), "/dev/kvm");
        assert_eq!(option_of(EngineError::Unsupported { missing: "x" }), "/dev/kvm");
        assert_eq!(option_of(EngineError::Msr { index: 1, value: 2 }), "/dev/kvm");
    }
}
