//! The engine's traits, in the process that calls them.
//!
//! Callers: tests and examples today, later the sealed process's main loop. RAM is used where
//! [`GuestMemory`] mapped it; devices are whoever answers the exits.

mod call;
mod doorbell;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_hypervisor::x86_64::processor::Place;
use bulkhead_hypervisor::{
    EngineError, Exit, Gsi, GuestDebug, Hypervisor, IoEvent, Kick, Msi, Vcpu, Vm,
};
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::soft_cpu::{Counters, Unknown};
use bulkhead_sys::code_memory::CodeMemory;

use crate::apic::{Apic, Fabric, Mailbox, signal};
use crate::cpu::Cpu;
use crate::host_cpu::HostCpu;
use crate::memory::devices::pages;
use crate::memory::order::Order;
use crate::memory::{Outside, Ram};
use crate::run::{Activity, Pause};
use crate::system::{Clock, Leaves, Rota, host_frequency};
use crate::tally::Tally;
use crate::trace::Trace;

use call::Listener;
pub(crate) use doorbell::Doorbells;

/// Longest change of code that is told at a time.
const MOST_CHANGED: u64 = 1 << 20;

/// Makes machines in software.
#[derive(Debug, Default)]
pub struct Soft;

impl Soft {
    /// Measures the host's counter, which takes a while and a call that a sealed process has not: for a
    /// process that will be sealed before it makes a machine.
    pub fn prepare() {
        host_frequency();
    }
}

/// Makes machines in software that compile what they execute often.
///
/// Each vCPU takes one of the code memories that were made with it; who comes when none is left
/// interprets.
#[derive(Debug, Clone)]
pub struct Compiling {
    /// Those that no vCPU has taken yet.
    memories: Memories,
    threshold: u32,
    counts: bool,
    slice: u32,
    compiled: Arc<AtomicU64>,
}

type Memories = Arc<Mutex<Vec<CodeMemory>>>;

/// Bytes of a vCPU's code memory. Only what is used of it is ever made.
pub const CODE_MEMORY: usize = 32 << 20;

impl Compiling {
    /// For machines of so many vCPUs together. Has to be made before the process is sealed.
    pub fn new(vcpus: u8) -> io::Result<Self> {
        Self::after(vcpus, crate::jit::THRESHOLD)
    }

    /// As [`new`](Self::new), but a block is compiled after so many executions: for tests.
    pub fn after(vcpus: u8, threshold: u32) -> io::Result<Self> {
        let memories = (0..vcpus).map(|_| CodeMemory::new(CODE_MEMORY));
        let memories = Arc::new(Mutex::new(memories.collect::<io::Result<_>>()?));
        Ok(Self { threshold, ..Self::with(memories) })
    }

    /// Time is the number of instructions executed, so that a guest does the same again; a run ends after
    /// at most `slice` of them (64 or more), or with nothing to execute. For vCPUs that take turns on one thread, and for
    /// comparing what two machines do.
    #[must_use]
    pub fn counting_instructions(self, slice: u32) -> Self {
        Self { counts: true, slice, ..self }
    }

    /// Blocks that its machines have compiled.
    pub fn compiled_blocks(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    fn with(memories: Memories) -> Self {
        let (threshold, slice) = (crate::jit::THRESHOLD, crate::run::SLICE);
        Self { memories, threshold, counts: false, slice, compiled: Arc::default() }
    }
}

impl Hypervisor for Compiling {
    fn create_vm(&self, memory: &GuestMemory) -> Result<Arc<dyn Vm>, EngineError> {
        SoftVm::create(memory, self.clone())
    }
}

impl Hypervisor for Soft {
    fn create_vm(&self, memory: &GuestMemory) -> Result<Arc<dyn Vm>, EngineError> {
        SoftVm::create(memory, Compiling::with(Memories::default()))
    }
}

impl SoftVm {
    fn create(memory: &GuestMemory, engine: Compiling) -> Result<Arc<dyn Vm>, EngineError> {
        if let Some(missing) = HostCpu::probe().missing() {
            return Err(EngineError::HostCpu { missing });
        }
        let clock = if engine.counts { Clock::counting() } else { Clock::start() };
        let fabric = Arc::<Fabric>::default();
        Ok(Arc::new(Self {
            engine,
            ram: Arc::new(Ram::new(memory)),
            clock,
            rota: Arc::default(),
            calls: OnceLock::new(),
            doorbells: Arc::default(),
            tallies: Mutex::default(),
            trace: OnceLock::new(),
            fabric,
        }))
    }
}

/// One machine.
struct SoftVm {
    engine: Compiling,
    ram: Arc<Ram>,
    fabric: Arc<Fabric>,
    clock: Clock,
    rota: Arc<Rota>,
    /// Made with its thread when it is first needed: a sealed process, which can make none, listens to
    /// calls itself.
    calls: OnceLock<Listener>,
    doorbells: Arc<Doorbells>,
    /// What each vCPU counts.
    tallies: Mutex<Vec<Arc<Tally>>>,
    /// Where vCPUs tell what they execute.
    trace: OnceLock<Arc<OwnedFd>>,
}

impl SoftVm {
    fn tallies(&self) -> MutexGuard<'_, Vec<Arc<Tally>>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> Result<&Listener, EngineError> {
        if let Some(calls) = self.calls.get() {
            return Ok(calls);
        }
        let made = Listener::new(Arc::clone(&self.fabric))?;
        Ok(self.calls.get_or_init(|| made))
    }
}

/// Longest used ring: of 32768 entries.
const LONGEST_RING: u64 = 6 + 8 * 32768;

impl SoftVm {
    fn check_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        let is_ram = ring.len <= LONGEST_RING && self.ram.host(ring.addr, ring.len).is_some();
        if is_ram { Ok(()) } else { Err(EngineError::Bug("a ring that is not in guest memory")) }
    }
}

impl Vm for SoftVm {
    fn create_vcpu(&self, index: u8, count: u8) -> Result<Box<dyn Vcpu>, EngineError> {
        let leaves = Leaves::new(Place { index, count }, self.clock.frequency);
        let apic = Apic::new(index, self.fabric.clone())
            .ok_or(EngineError::Bug("more vCPUs than a machine has"))?;
        let mailbox = apic.mailbox.clone();
        let mut cpu = Cpu::new(self.ram.clone(), apic, self.clock, leaves);
        cpu.doorbells = self.doorbells.clone();
        cpu.slice = self.engine.slice;
        cpu.rota = Arc::clone(&self.rota);
        let memory = self.engine.memories.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(memory) = memory {
            cpu.compile_blocks(memory, self.engine.threshold);
            if let Some(jit) = &mut cpu.blocks.jit {
                jit.compiled = Arc::clone(&self.engine.compiled);
            }
        }
        let trace = self.trace.get().map(|socket| Trace::new(Arc::clone(socket), index));
        cpu.trace = trace.map(Box::new);
        self.tallies().push(Arc::clone(&cpu.tally));
        if index != 0 {
            cpu.activity = Activity::WaitsForStartup;
        }
        Ok(Box::new(SoftVcpu { cpu, mailbox, bytes: [0; 8], asked: None }))
    }

    fn signal_msi(&self, msi: Msi) -> Result<(), EngineError> {
        self.fabric.deliver(msi);
        Ok(())
    }

    fn allocate_gsi(&self) -> Result<Gsi, EngineError> {
        self.calls()?.allocate()
    }

    fn release_gsi(&self, gsi: Gsi) {
        if let Ok(calls) = self.calls() {
            calls.release(gsi);
        }
    }

    fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError> {
        self.calls()?.set_routes(changes);
        Ok(())
    }

    fn connect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        self.calls()?.connect(call, gsi)
    }

    fn disconnect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        self.calls()?.disconnect(call, gsi)
    }

    fn connect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.doorbells.connect(event, kick)
    }

    fn disconnect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.doorbells.disconnect(event, kick);
        Ok(())
    }

    fn code_changed(&self, address: u64, len: u64) -> Result<(), EngineError> {
        if len > MOST_CHANGED || address.checked_add(len).is_none() {
            return Err(EngineError::Bug("a change of more code than one writes at a time"));
        }
        let changed = GuestRange::new(address, len);
        pages(changed).for_each(|page| self.fabric.order_all(Order::DropCode(page)));
        Ok(())
    }

    fn watch_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        self.check_ring(ring)?;
        self.ram.devices().watch(ring, true);
        pages(ring).for_each(|page| self.fabric.order_all(Order::ForbidAccess(page)));
        Ok(())
    }

    fn unwatch_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        self.check_ring(ring)?;
        self.ram.devices().watch(ring, false);
        Ok(())
    }

    fn expect_unlogged_writes(&self) -> Result<(), EngineError> {
        self.ram.devices().expect_unlogged();
        Ok(())
    }

    fn start_dirty_log(&self) -> Result<(), EngineError> {
        self.ram.dirty().start();
        self.fabric.order_all(Order::ForbidAllWrites);
        Ok(())
    }

    fn stop_dirty_log(&self) -> Result<(), EngineError> {
        self.ram.dirty().stop();
        Ok(())
    }

    fn get_dirty_log(&self, region: usize) -> Result<Vec<u64>, EngineError> {
        let pages = self.ram.pages_of(region);
        let (first, count) = pages.ok_or(EngineError::Bug("a region that a machine has not"))?;
        let taken = self.ram.dirty().take(first, count);
        self.fabric.order_all(Order::ForbidAllWrites);
        Ok(taken)
    }

    fn trace_to(&self, socket: OwnedFd) {
        let _ = self.trace.set(Arc::new(socket));
    }

    fn counters(&self) -> Option<Counters> {
        let mut sum = Counters::default();
        self.tallies().iter().for_each(|tally| sum += tally.counters());
        Some(sum)
    }

    fn last_unknown(&self) -> Option<Unknown> {
        let seen = self.counters()?.unknown;
        let last = self.tallies().iter().filter_map(|tally| tally.last_unknown()).next_back();
        last.map(|unknown| Unknown { seen, ..unknown })
    }
}

/// One vCPU.
struct SoftVcpu {
    cpu: Cpu,
    mailbox: Arc<Mailbox>,
    /// The bytes of the access that the last exit reported.
    bytes: [u8; 8],
    asked: Option<Outside>,
}

impl SoftVcpu {
    /// Takes the answer to the last exit.
    fn complete(&mut self) {
        if self.asked.take().is_some() {
            self.cpu.replay.answer(u64::from_le_bytes(self.bytes));
        }
    }

    fn ask(&mut self) -> Exit<'_> {
        let Some(request) = self.cpu.replay.waiting() else {
            return Exit::InternalError { code: 0 };
        };
        self.asked = Some(request);
        self.bytes = [0; 8];
        match request {
            Outside::PortRead { port, width } => {
                Exit::PioIn { port, width, data: &mut self.bytes[..width.into()] }
            }
            Outside::PortWrite { port, width, value } => {
                self.bytes = value.to_le_bytes();
                Exit::PioOut { port, width, data: &self.bytes[..width.into()] }
            }
            Outside::MemoryRead { address, width } => {
                Exit::MmioRead { address, data: &mut self.bytes[..width.into()] }
            }
            Outside::MemoryWrite { address, width, value } => {
                self.bytes = value.to_le_bytes();
                Exit::MmioWrite { address, data: &self.bytes[..width.into()] }
            }
        }
    }
}

impl Vcpu for SoftVcpu {
    fn run(&mut self) -> Result<Exit<'_>, EngineError> {
        self.complete();
        Ok(match self.cpu.run() {
            Pause::Outside => self.ask(),
            Pause::Kicked => Exit::Interrupted,
            Pause::Ended(vector) => Exit::Eoi(vector),
            Pause::Debug(stop) => Exit::Debug(stop),
            Pause::Shutdown => Exit::Shutdown,
            Pause::Resting => Exit::Hlt,
        })
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        Arc::new(Bell(self.mailbox.clone()))
    }

    fn state(&mut self) -> Result<Box<VcpuState>, EngineError> {
        self.complete();
        self.cpu.finish_access();
        Ok(self.cpu.save())
    }

    fn excuse_pause(&mut self) {
        self.cpu.excuse_pause();
    }

    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        self.asked = None;
        self.cpu.restore(state);
        Ok(())
    }

    fn set_registers(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        self.complete();
        self.cpu.finish_access();
        self.asked = None;
        self.cpu.restore_registers(state);
        Ok(())
    }

    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), EngineError> {
        self.cpu.set_guest_debug(debug);
        Ok(())
    }
}

/// Ends a run.
struct Bell(Arc<Mailbox>);

impl Kick for Bell {
    fn kick(&self) {
        self.0.signal(signal::KICK);
    }
}
