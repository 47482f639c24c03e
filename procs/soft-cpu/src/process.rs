//! The soft-cpu process: threads, seal, plan, and then an engine behind messages.
//!
//! Its arguments are the number of vCPUs, each of which has a thread made before the seal, and whether
//! guest code is compiled (`jit=on`, `jit=off`): what that needs is made before the seal too. It holds
//! guest memory, its ends of the channels to core, and the kicks and calls that core passes on.
//!
//! Called by the program's `main`, and by that of a test's program, for which the host's processor offers less.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_channel::Channel;
use bulkhead_hypervisor::Hypervisor;
use bulkhead_hypervisor::remote::VcpuEnds;
use bulkhead_memory::{Grant, GuestMemory, RamLayout, Rights, WrittenPages};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::soft_cpu::{SoftCpuCommand, SoftCpuEvent};
use bulkhead_runtime::{Helper, Incoming, RuntimeError, Start};
use bulkhead_soft_cpu::host_cpu::HostCpu;
use bulkhead_soft_cpu::serve::{Report, SUPERVISOR, Seat, ServeError, Service, live};
use bulkhead_soft_cpu::{Compiling, Soft};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::verify_sealed;
use bulkhead_sys::poller::{Interest, Poller};

/// The supervisor attests before it sends the plan; a start takes milliseconds.
const PLAN_DEADLINE: Duration = Duration::from_secs(30);

/// Most vCPUs of a machine in software.
const MOST_VCPUS: u8 = 8;

/// A vCPU's stack: a block's operations call one another where the compiler makes no jump of it.
const STACK: usize = 1 << 20;

type SoftHelper = Helper<SoftCpuCommand, SoftCpuEvent>;

/// The process, on a host whose processor offers this.
pub(crate) fn main(host: HostCpu) {
    let jit = jit_of_argument();
    let compiles = jit.as_ref().is_ok_and(|jit| *jit);
    let class = if compiles { ProcessClass::SoftCpuJit } else { ProcessClass::SoftCpu };
    let start = Start::new(class);
    match jit.and_then(|jit| serve(start, jit, host)) {
        Ok(()) => bulkhead_runtime::exit(0),
        Err(error) if is_end(&error) => bulkhead_runtime::exit(0),
        Err(error) => {
            bulkhead_runtime::log(&format!("{class}: {error:#}"));
            bulkhead_runtime::exit(1);
        }
    }
}

fn is_end(error: &anyhow::Error) -> bool {
    let ended = |error: &RuntimeError| matches!(error, RuntimeError::Closed);
    match error.downcast_ref() {
        Some(ServeError::Supervisor(error)) => ended(error),
        _ => error.downcast_ref().is_some_and(ended),
    }
}

fn serve(start: Start, jit: bool, host: HostCpu) -> Result<()> {
    let vcpus = vcpus_of_argument()?;
    let engine = engine(vcpus, jit)?;
    Soft::prepare();
    seed();
    let seats = threads(vcpus)?;
    let poller = Poller::new().context("epoll")?;
    let helper: SoftHelper = start.seal()?;
    let (plan, fds) = helper.plan(Deadline::after(PLAN_DEADLINE))?;
    let SoftCpuCommand::Plan { vcpus: planned, memory, trace } = plan else {
        bail!("no plan first")
    };
    ensure!(planned == vcpus, "a plan for {planned} vCPUs, {vcpus} threads");
    let mut fds = fds;
    let trace = if trace { fds.pop() } else { None };
    let mut fds = fds.into_iter();
    let ram = fds.next().context("no guest memory came")?;
    let control = Channel::from_fd(fds.next().context("no channel to core came")?);
    let memory = map(memory, &ram, &fds.next().context("no log of written pages came")?)?;
    drop(ram);
    let ends = vcpu_ends(fds)?;
    ensure!(ends.len() == usize::from(vcpus), "ends of {} vCPUs", ends.len());
    poller.add(&helper, SUPERVISOR, Interest::Read).context("epoll")?;
    if let Some(missing) = host.missing() {
        return refuse(&helper, &poller, missing);
    }
    let vm = engine.create_vm(&memory)?;
    trace.into_iter().for_each(|socket| vm.trace_to(socket));
    let mut report = Report::new(Arc::clone(&vm));
    let (service, taken) = Service::new(vm, control, ends, poller)?;
    for (seat, thread) in taken.into_iter().zip(seats) {
        ensure!(thread.send(seat).is_ok(), "a vCPU's thread is gone");
    }
    helper.ready()?;
    match service.run(&mut || hear(&helper, &mut report))? {
        Some(poller) => await_stop(&helper, &poller, &mut report),
        None => Ok(()),
    }
}

/// Tells that this host cannot do it, and waits to be ended.
fn refuse(helper: &SoftHelper, poller: &Poller, missing: &str) -> Result<()> {
    helper.event(&SoftCpuEvent::Refused { missing: missing.to_owned() })?;
    await_stop(helper, poller, &mut Report::default())
}

/// Core is gone. Whose fault that is, the supervisor has to find out: a death of ours would look like it.
fn await_stop(helper: &SoftHelper, poller: &Poller, report: &mut Report) -> Result<()> {
    let mut events = Vec::new();
    while hear(helper, report)? {
        events.clear();
        poller.wait(None, &mut events).context("epoll")?;
    }
    Ok(())
}

fn vcpus_of_argument() -> Result<u8> {
    let argument = std::env::args().nth(1).context("no number of vCPUs was given")?;
    match argument.parse() {
        Ok(vcpus @ 1..=MOST_VCPUS) => Ok(vcpus),
        _ => bail!("{argument:?} is no number of vCPUs from 1 to {MOST_VCPUS}"),
    }
}

fn jit_of_argument() -> Result<bool> {
    match std::env::args().nth(2).as_deref() {
        Some("jit=on") => Ok(true),
        Some("jit=off") => Ok(false),
        other => bail!("{other:?} is neither jit=on nor jit=off"),
    }
}

/// What executes the guest. Code memory can be made now, and never again.
fn engine(vcpus: u8, jit: bool) -> Result<Box<dyn Hypervisor>> {
    if !jit {
        return Ok(Box::new(Soft));
    }
    let engine = Compiling::new(vcpus);
    Ok(Box::new(engine.context("no code memory; --cpu soft,jit=off needs none")?))
}

/// A thread for each vCPU, which waits for its seat. Returns once each has begun: a thread's first
/// steps take calls that a sealed process has not.
fn threads(count: u8) -> Result<Vec<Sender<Seat>>> {
    let begun = Arc::new(Barrier::new(usize::from(count) + 1));
    let mut seats = Vec::new();
    for number in 0..count {
        let (seat, taken) = channel();
        let begun = Arc::clone(&begun);
        let thread = std::thread::Builder::new().name(format!("vcpu{number}")).stack_size(STACK);
        thread.spawn(move || {
            seed();
            begun.wait();
            sit(&taken);
        })?;
        seats.push(seat);
    }
    begun.wait();
    Ok(seats)
}

/// Has this thread's hash tables seeded now: the first one asks the kernel, which a sealed process may not.
fn seed() {
    std::hint::black_box(std::hash::RandomState::new());
}

/// Runs a vCPU. Returns never: a thread's end takes calls that a sealed process has not. Its fault is the machine's.
fn sit(seat: &Receiver<Seat>) -> ! {
    if let Ok(seat) = seat.recv()
        && let Err(error) = live(seat)
    {
        bulkhead_runtime::log(&format!("soft-cpu: {error}"));
        bulkhead_runtime::exit(1);
    }
    loop {
        std::thread::park();
    }
}

fn map(len: u64, ram: &OwnedFd, written: &OwnedFd) -> Result<GuestMemory> {
    verify_sealed(ram.as_fd(), len).context("guest memory")?;
    let layout = RamLayout::new(len).context("guest memory")?;
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(ram).context("guest memory")?;
    let log = WrittenPages::len_of(&layout);
    verify_sealed(written.as_fd(), log).context("log of written pages")?;
    let written = WrittenPages::map(written, 0, log).context("log of written pages")?;
    memory.log_writes(Some(Arc::new(written)));
    Ok(memory)
}

fn vcpu_ends(mut fds: impl Iterator<Item = OwnedFd>) -> Result<Vec<VcpuEnds>> {
    let mut ends = Vec::new();
    while let Some(turns) = fds.next() {
        let kick = Doorbell::from_fd(fds.next().context("a vCPU without kicks")?);
        ends.push(VcpuEnds { turns: Channel::from_fd(turns), kick });
    }
    Ok(ends)
}

/// What the supervisor says; `false`: stop.
fn hear(helper: &SoftHelper, report: &mut Report) -> Result<bool, ServeError> {
    while let Some(incoming) = helper.try_receive()? {
        match incoming {
            Incoming::Heartbeat(number) => {
                helper.alive(number, 0)?;
                if let Some(event) = report.news(Instant::now()) {
                    helper.event(&event)?;
                }
            }
            Incoming::Role(SoftCpuCommand::Count, _) => helper.event(&report.counters())?,
            Incoming::Role(SoftCpuCommand::Plan { .. }, _) | Incoming::Stop => return Ok(false),
        }
    }
    Ok(true)
}
