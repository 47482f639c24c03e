//! The machine of an engine in another process.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;

use super::vcpu::RemoteVcpu;
use super::wire::{Answer, Request, WORDS_OF_LOG};
use crate::engine::{Hypervisor, Vcpu, Vm};
use crate::error::EngineError;
use crate::interrupt::{Gsi, IOAPIC_PINS, Msi};
use crate::ioevent::IoEvent;

/// How long the engine's main thread, which never runs the guest, may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Device interrupt numbers that there are.
const GSIS: u32 = 1024;

/// Our ends of what leads to one vCPU.
#[derive(Debug)]
pub struct VcpuEnds {
    /// The channel of [`super::wire::Turn`]s and [`super::wire::Halt`]s.
    pub turns: Channel,
    /// Ends its run.
    pub kick: Doorbell,
}

/// An engine in another process, which has the machine's RAM already: it makes one machine.
#[derive(Debug)]
pub struct Remote {
    ends: Mutex<Option<(Channel, Vec<VcpuEnds>)>>,
}

impl Remote {
    /// By these ends, one for each vCPU.
    pub fn new(control: Channel, vcpus: Vec<VcpuEnds>) -> Self {
        Self { ends: Mutex::new(Some((control, vcpus))) }
    }
}

impl Hypervisor for Remote {
    fn create_vm(&self, memory: &GuestMemory) -> Result<Arc<dyn Vm>, EngineError> {
        let (control, vcpus) =
            hold(&self.ends).take().ok_or(EngineError::Bug("an engine for one machine"))?;
        Ok(Arc::new(RemoteVm {
            control: Control(Mutex::new(control)),
            vcpus: Mutex::new(vcpus.into_iter().map(Some).collect()),
            gsis: Mutex::default(),
            connections: Mutex::default(),
            log_words: memory.regions().map(|region| log_words(region.ram().len)).collect(),
        }))
    }
}

/// The control channel: one request at a time.
struct Control(Mutex<Channel>);

impl Control {
    fn order(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), EngineError> {
        match self.ask(request, fds)? {
            Answer::Done => Ok(()),
            _ => Err(EngineError::remote("obey", "another answer")),
        }
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answer, EngineError> {
        match hold(&self.0).call(request, fds, Deadline::after(PATIENCE)) {
            Ok((Answer::Refused(reason), _)) => Err(EngineError::remote("obey", reason)),
            Ok((answer, _)) => Ok(answer),
            Err(error) => Err(EngineError::remote("answer", error)),
        }
    }

    /// `count` words of a region's log, as many at a time as a message has room for.
    fn log(&self, region: u32, count: usize) -> Result<Vec<u64>, EngineError> {
        let mut log = Vec::with_capacity(count);
        while log.len() < count {
            let request = Request::WrittenPages { region, word: log.len() as u32 };
            let Answer::Written(words) = self.ask(&request, &[])? else {
                return Err(EngineError::remote("tell what was written", "another answer"));
            };
            if words.len() != WORDS_OF_LOG.min(count - log.len()) {
                return Err(EngineError::remote(
                    "tell what was written",
                    "a log of another length",
                ));
            }
            log.extend(words);
        }
        Ok(log)
    }
}

/// What was connected: by the eventfd's number here, and to what.
type Key = (RawFd, Target);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Interrupt(Gsi),
    Writes(IoEvent),
}

#[derive(Default)]
struct Connections {
    next: u64,
    open: BTreeMap<Key, u64>,
}

struct RemoteVm {
    control: Control,
    vcpus: Mutex<Vec<Option<VcpuEnds>>>,
    gsis: Mutex<BTreeSet<Gsi>>,
    connections: Mutex<Connections>,
    /// Words of each region's log of written pages.
    log_words: Vec<usize>,
}

/// Words of the log of so many bytes.
fn log_words(len: u64) -> usize {
    const PAGES_OF_WORD: u64 = 64;
    len.div_ceil(4096 * PAGES_OF_WORD) as usize
}

impl RemoteVm {
    fn connect(
        &self,
        fd: BorrowedFd<'_>,
        target: Target,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<(), EngineError> {
        let mut connections = hold(&self.connections);
        connections.next += 1;
        let number = connections.next;
        self.control.order(&request(number), &[fd])?;
        connections.open.insert((fd.as_raw_fd(), target), number);
        Ok(())
    }

    fn disconnect(&self, fd: BorrowedFd<'_>, target: Target) -> Result<(), EngineError> {
        let number = hold(&self.connections).open.remove(&(fd.as_raw_fd(), target));
        let connection = number.ok_or(EngineError::Bug("what was never connected"))?;
        self.control.order(&Request::Disconnect { connection }, &[])
    }
}

impl Vm for RemoteVm {
    fn create_vcpu(&self, index: u8, _count: u8) -> Result<Box<dyn Vcpu>, EngineError> {
        let ends = hold(&self.vcpus).get_mut(usize::from(index)).and_then(Option::take);
        let VcpuEnds { turns, kick } = ends.ok_or(EngineError::Bug("a vCPU without ends"))?;
        Ok(Box::new(RemoteVcpu::new(turns, kick)))
    }

    fn signal_msi(&self, msi: Msi) -> Result<(), EngineError> {
        self.control.order(&Request::Signal((msi.address, msi.data)), &[])
    }

    fn allocate_gsi(&self) -> Result<Gsi, EngineError> {
        let mut gsis = hold(&self.gsis);
        let free = (u32::from(IOAPIC_PINS)..GSIS).map(Gsi).find(|gsi| !gsis.contains(gsi));
        let gsi = free.ok_or(EngineError::NoGsiLeft { limit: GSIS })?;
        gsis.insert(gsi);
        Ok(gsi)
    }

    fn release_gsi(&self, gsi: Gsi) {
        if hold(&self.gsis).remove(&gsi) {
            let _ = self.set_routes(&[(gsi, None)]);
        }
    }

    fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError> {
        let route =
            |(gsi, route): &(Gsi, Option<Msi>)| (gsi.0, route.map(|msi| (msi.address, msi.data)));
        self.control.order(&Request::Routes(changes.iter().map(route).collect()), &[])
    }

    fn connect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let request = |connection| Request::ConnectCall { connection, gsi: gsi.0 };
        self.connect(call, Target::Interrupt(gsi), request)
    }

    fn disconnect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        self.disconnect(call, Target::Interrupt(gsi))
    }

    fn connect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        let request = |connection| Request::ConnectKick { connection, event };
        self.connect(kick, Target::Writes(event), request)
    }

    fn disconnect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.disconnect(kick, Target::Writes(event))
    }

    fn code_changed(&self, address: u64, len: u64) -> Result<(), EngineError> {
        self.control.order(&Request::CodeChanged { address, len }, &[])
    }

    fn watch_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        self.control.order(&Request::WatchRing { at: (ring.addr, ring.len), watch: true }, &[])
    }

    fn unwatch_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        self.control.order(&Request::WatchRing { at: (ring.addr, ring.len), watch: false }, &[])
    }

    fn start_dirty_log(&self) -> Result<(), EngineError> {
        self.control.order(&Request::LogWrites(true), &[])
    }

    fn stop_dirty_log(&self) -> Result<(), EngineError> {
        self.control.order(&Request::LogWrites(false), &[])
    }

    fn get_dirty_log(&self, region: usize) -> Result<Vec<u64>, EngineError> {
        let words = self.log_words.get(region).copied();
        let words = words.ok_or(EngineError::Bug("a region that a machine has not"))?;
        self.control.log(region as u32, words)
    }

    fn expect_unlogged_writes(&self) -> Result<(), EngineError> {
        self.control.order(&Request::ExpectUnloggedWrites, &[])
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
