//! Two machines with one board.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_boot::Boot;
use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_hypervisor::{EngineError, Exit, Gsi, Hypervisor, IoEvent, Msi, Vcpu, Vm};
use bulkhead_machine::request::Requests;
use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};
use bulkhead_soft_cpu::Compiling;

use crate::board::{Board, board};

/// Bytes of guest memory.
const RAM: u64 = 128 << 20;
/// Turns between two comparisons of all of it.
const RAM_EVERY: u64 = 16384;

/// Differences after which it is no use to go on.
const MOST_DIFFERENCES: u32 = 12;

/// Why a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The guest has switched off.
    Off,
    /// As many instructions as were wanted.
    Enough,
}

/// What a machine asks of its board, with what it says and room for what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    PioIn(u16, Vec<u8>),
    PioOut(u16, Vec<u8>),
    MmioRead(u64, Vec<u8>),
    MmioWrite(u64, Vec<u8>),
    Eoi(u8),
    Nothing,
}

impl Asked {
    fn of(exit: &Exit<'_>) -> Self {
        match exit {
            Exit::PioIn { port, data, .. } => Self::PioIn(*port, data.to_vec()),
            Exit::PioOut { port, data, .. } => Self::PioOut(*port, data.to_vec()),
            Exit::MmioRead { address, data } => Self::MmioRead(*address, data.to_vec()),
            Exit::MmioWrite { address, data } => Self::MmioWrite(*address, data.to_vec()),
            Exit::Eoi(vector) => Self::Eoi(*vector),
            Exit::Interrupted => Self::Nothing,
            other => panic!("{other:?}"),
        }
    }
}

/// Delivers the board's interrupts to both.
struct Both([Arc<dyn Vm>; 2]);

impl Vm for Both {
    fn signal_msi(&self, msi: Msi) -> Result<(), EngineError> {
        self.0.iter().try_for_each(|vm| vm.signal_msi(msi))
    }

    fn create_vcpu(&self, _: u8, _: u8) -> Result<Box<dyn Vcpu>, EngineError> {
        unreachable!("the board makes no vCPU")
    }

    fn allocate_gsi(&self) -> Result<Gsi, EngineError> {
        unreachable!("the board has no eventfds")
    }

    fn release_gsi(&self, _: Gsi) {}

    fn set_routes(&self, _: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError> {
        // For eventfds, which the board does not have.
        Ok(())
    }

    fn connect_irqfd(&self, _: BorrowedFd<'_>, _: Gsi) -> Result<(), EngineError> {
        unreachable!("the board has no eventfds")
    }

    fn disconnect_irqfd(&self, _: BorrowedFd<'_>, _: Gsi) -> Result<(), EngineError> {
        unreachable!("the board has no eventfds")
    }

    fn breakpoint_limit(&self) -> Option<usize> {
        None
    }

    fn code_changed(&self, _: u64, _: u64) -> Result<(), EngineError> {
        unreachable!("there is no debugger")
    }

    fn connect_ioevent(&self, _: IoEvent, _: BorrowedFd<'_>) -> Result<(), EngineError> {
        unreachable!("the board has no eventfds")
    }

    fn disconnect_ioevent(&self, _: IoEvent, _: BorrowedFd<'_>) -> Result<(), EngineError> {
        unreachable!("the board has no eventfds")
    }
}

struct Machine {
    memory: GuestMemory,
    vcpus: Vec<Box<dyn Vcpu>>,
}

/// The interpreter and its twin.
pub struct Pair {
    reference: Machine,
    twin: Machine,
    board: Board,
    off: Arc<AtomicBool>,
    console: Vec<u8>,
    turn: u32,
    engine: Compiling,
    pub turns: u64,
    pub exits: u64,
    /// After each, the twin was made like the other again.
    pub differences: u32,
}

impl Pair {
    pub fn new(kernel: &File, initrd: &File, vcpus: u8, turn: u32, threshold: u32) -> Self {
        let make = |compiling: u8| {
            let engine =
                Compiling::after(compiling, threshold).unwrap().counting_instructions(turn);
            let layout = RamLayout::new(RAM).unwrap();
            let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total()).unwrap();
            let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd).unwrap();
            let entry = bulkhead_boot::load(&Boot {
                kernel,
                initrd: Some(initrd),
                command_line: "console=ttyS0 cryptomgr.notests panic=-1",
                memory: &memory,
                layout: &layout,
                cpus: vcpus,
                breathe: &|| {},
            })
            .unwrap();
            let vm = engine.create_vm(&memory).unwrap();
            let made = (0..vcpus).map(|index| vm.create_vcpu(index, vcpus).unwrap());
            let mut vcpus: Vec<_> = made.collect();
            let mut state = vcpus[0].state().unwrap();
            entry.apply(&mut state);
            vcpus[0].set_state(&state).unwrap();
            (Machine { memory, vcpus }, vm, engine)
        };
        let (reference, vm, _) = make(0);
        let (twin, twins_vm, engine) = make(vcpus);
        let off = Arc::new(AtomicBool::new(false));
        let requested = Arc::clone(&off);
        let requests: Requests = Arc::new(move |_| requested.store(true, Ordering::Relaxed));
        let board = board(Arc::new(Both([vm, twins_vm])), &requests).unwrap();
        let (turns, exits, console) = (0, 0, Vec::new());
        Self { reference, twin, board, off, console, turn, engine, turns, exits, differences: 0 }
    }

    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }

    /// Blocks that the twin has compiled.
    pub fn compiled(&self) -> u64 {
        self.engine.compiled_blocks()
    }

    /// Runs both until the guest switches off or has executed about so many instructions.
    pub fn run(&mut self, instructions: u64) -> End {
        loop {
            for vcpu in 0..self.reference.vcpus.len() {
                self.turns += 1;
                self.both_run(vcpu);
                if self.off.load(Ordering::Relaxed) {
                    self.compare_ram();
                    return End::Off;
                }
                self.compare(vcpu);
            }
            if self.turns.is_multiple_of(RAM_EVERY) {
                self.compare_ram();
            }
            if self.turns * u64::from(self.turn) > instructions {
                self.compare_ram();
                return End::Enough;
            }
        }
    }

    /// One turn of a vCPU of both. The board answers when both have asked: its interrupts reach both at the same
    /// point.
    fn both_run(&mut self, vcpu: usize) {
        let exit = self.reference.vcpus[vcpu].run().unwrap();
        let twins_exit = self.twin.vcpus[vcpu].run().unwrap();
        let asked = Asked::of(&exit);
        assert_eq!(Asked::of(&twins_exit), asked, "turn {}: what they ask differs", self.turns);
        self.exits += u64::from(asked != Asked::Nothing);
        let answer = answer(&self.board, exit);
        self.board.uart.drain(|bytes| {
            self.console.extend_from_slice(bytes);
            Ok(bytes.len())
        });
        if let Exit::PioIn { data, .. } | Exit::MmioRead { data, .. } = twins_exit {
            data.copy_from_slice(&answer);
        }
    }

    fn compare(&mut self, vcpu: usize) {
        let reference = self.reference.vcpus[vcpu].state().unwrap();
        let twin = self.twin.vcpus[vcpu].state().unwrap();
        if let Some(part) = difference(&reference, &twin) {
            eprintln!(
                "turn {}, vCPU {vcpu}: {part} differ\ninterpreted: {:x?}\ncompiled:    {:x?}",
                self.turns, reference.regs, twin.regs,
            );
            self.differences += 1;
            assert!(self.differences < MOST_DIFFERENCES, "{}", self.console());
            self.twin.vcpus[vcpu].set_state(&reference).unwrap();
        }
    }

    fn compare_ram(&self) {
        const PIECE: usize = 1 << 20;
        let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
        for at in (0..RAM).step_by(PIECE) {
            let range = GuestRange::new(at, PIECE as u64);
            self.reference.memory.check(range).unwrap().copy_in(&mut one).unwrap();
            self.twin.memory.check(range).unwrap().copy_in(&mut other).unwrap();
            let place = one.iter().zip(&other).position(|(one, other)| one != other);
            assert_eq!(place.map(|place| at + place as u64), None, "RAM, turn {}", self.turns);
        }
    }
}

/// Has the board answer; what it says to a read.
fn answer(board: &Board, exit: Exit<'_>) -> Vec<u8> {
    match exit {
        Exit::PioIn { port, data, .. } => {
            board.pio.read(port.into(), data);
            data.to_vec()
        }
        Exit::PioOut { port, data, .. } => {
            board.pio.write(port.into(), data);
            Vec::new()
        }
        Exit::MmioRead { address, data } => {
            board.mmio.read(address, data);
            data.to_vec()
        }
        Exit::MmioWrite { address, data } => {
            board.mmio.write(address, data);
            Vec::new()
        }
        Exit::Eoi(vector) => {
            board.ioapic.end_of_interrupt(vector);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// The first part in which two processors differ.
fn difference(one: &VcpuState, other: &VcpuState) -> Option<&'static str> {
    let parts = [
        (one.regs == other.regs, "general registers"),
        (one.sregs == other.sregs, "system registers"),
        (one.xsave.0 == other.xsave.0, "x87 and SSE registers"),
        (one.debug == other.debug, "debug registers"),
        (one.events == other.events, "events"),
        (one.lapic == other.lapic, "the local APIC"),
        (one.mp_state == other.mp_state, "activity"),
        (format!("{:?}", one.msrs) == format!("{:?}", other.msrs), "MSRs"),
    ];
    parts.into_iter().find(|(same, _)| !same).map(|(_, part)| part)
}
