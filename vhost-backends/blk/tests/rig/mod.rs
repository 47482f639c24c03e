//! A vhost-blk process as threads of the test, its supervisor, and a block layer in memory.
//!
//! The device's code is the one of the process; only the seal, the jail and the binary are missing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bulkhead_backend_kit::{Crew, Link, Process, ProcessError};
use bulkhead_blk::Live;
use bulkhead_channel::Channel;
use bulkhead_harness::frontend::{Completion, Frontend, Options, Queue};
use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest, Operation};
use bulkhead_protocol::device::{BlkCommand, BlkPlan, DeviceEvent, DiskInfo, QueuePlan, RingShape};
use bulkhead_protocol::inflight::table_size;
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_ring::{RingGeometry, Server, create};
use bulkhead_runtime::{Incoming, RuntimeError};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::poller::Poller;

/// Long enough for the slowest machine; nothing is measured by it.
pub const LONG: Duration = Duration::from_secs(60);

pub const DISK: u64 = 8 << 20;

const SHAPE: RingShape = RingShape { entries: 64, arena: 2 << 20 };

/// The supervisor's channel as the process sees it, without a seal before it.
struct Unsealed(Channel);

impl Link<BlkCommand> for Unsealed {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn next(&self) -> Result<Option<Incoming<BlkCommand>>, RuntimeError> {
        let Some((message, fds)) = self.0.try_receive::<ToHelper<BlkCommand>>()? else {
            return Ok(None);
        };
        Ok(Some(match message {
            ToHelper::Heartbeat(number) => Incoming::Heartbeat(number),
            ToHelper::Role(command) => Incoming::Role(command, fds),
            ToHelper::Stop => Incoming::Stop,
        }))
    }

    fn alive(&self, number: u64, progress: u64) -> Result<(), RuntimeError> {
        Ok(self.0.send(&FromHelper::<DeviceEvent>::Alive { number, progress }, &[])?)
    }

    fn progressed(&self) -> Result<(), RuntimeError> {
        Ok(self.0.send(&FromHelper::<DeviceEvent>::Progressed, &[])?)
    }

    fn event(&self, event: &DeviceEvent) -> Result<(), RuntimeError> {
        Ok(self.0.send(&FromHelper::Role(event.clone()), &[])?)
    }

    fn log(&self, _line: &str) {}
}

/// What a block layer keeps when it dies, and how it behaves.
#[derive(Default)]
pub struct Storage {
    pub image: Mutex<Vec<u8>>,
    /// Requests are taken and not answered.
    pub holds: AtomicBool,
    /// Requests taken.
    pub taken: AtomicU64,
}

/// One queue's lane of the block layer.
struct Layer {
    stop: Arc<AtomicBool>,
    bell: Doorbell,
    thread: Option<JoinHandle<()>>,
}

impl Layer {
    fn start(
        ring: &OwnedFd,
        incarnation: u64,
        bells: &[Doorbell; 2],
        storage: &Arc<Storage>,
    ) -> Self {
        let geometry = RingGeometry::new(SHAPE.entries, SHAPE.arena).unwrap();
        let server = Server::attach(ring, geometry, incarnation).unwrap();
        let [submit, complete] = bells.each_ref().map(|bell| bell.try_clone().unwrap());
        let (stop, bell) = (Arc::new(AtomicBool::new(false)), submit.try_clone().unwrap());
        let (stopped, storage) = (stop.clone(), storage.clone());
        let life = move || serve(server, &submit, &complete, &storage, &stopped);
        Self { stop, bell, thread: Some(thread::spawn(life)) }
    }
}

impl Drop for Layer {
    /// Dies with what it holds, and is reaped.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.bell.ring();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(
    mut server: Server<BlockRequest, BlockCompletion>,
    submit: &Doorbell,
    complete: &Doorbell,
    storage: &Storage,
    stop: &AtomicBool,
) {
    let mut held = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while let Some(request) = server.submit.pop().unwrap() {
            storage.taken.fetch_add(1, Ordering::Relaxed);
            held.push(request);
        }
        if !storage.holds.load(Ordering::Relaxed) {
            for request in held.drain(..) {
                perform(&server, &request, storage);
                let answer = BlockCompletion { tag: request.tag, status: 0, reserved: [0; 5] };
                server.complete.push(answer).unwrap();
            }
            server.complete.publish().ring(complete);
        }
        if server.submit.arm().unwrap() == bulkhead_ring::Armed::Sleep {
            let _ = bulkhead_sys::readiness::wait_readable(
                [submit.as_fd()],
                Some(Duration::from_millis(20)),
            );
            submit.clear();
            server.submit.disarm();
        }
    }
}

fn perform(
    server: &Server<BlockRequest, BlockCompletion>,
    request: &BlockRequest,
    storage: &Storage,
) {
    let range = request.offset as usize..request.offset as usize + request.len as usize;
    let mut image = storage.image.lock().unwrap();
    let span = || server.arena.check(request.span.into(), request.len.into()).unwrap();
    match request.operation().unwrap() {
        Operation::Read => span().copy_out(&image[range]).unwrap(),
        Operation::Write => span().copy_in(&mut image[range]).unwrap(),
        Operation::Flush => {}
        _ => image[range].fill(0),
    }
}

/// The supervisor, with all that outlives a process.
pub struct Supervisor {
    queues: u16,
    table: OwnedFd,
    bells: Vec<[Doorbell; 2]>,
    rings: Vec<OwnedFd>,
    incarnation: u64,
    pub storage: Arc<Storage>,
    layers: Vec<Layer>,
    channel: Channel,
    process: Option<JoinHandle<Result<(), ProcessError>>>,
    beats: u64,
}

impl Supervisor {
    pub fn start(queues: u16) -> Self {
        let bells = || [Doorbell::new().unwrap(), Doorbell::new().unwrap()];
        let storage = Storage { image: Mutex::new(vec![0; DISK as usize]), ..Storage::default() };
        let mut supervisor = Self {
            queues,
            table: create_sealed("inflight", table_size(queues, 256)).unwrap(),
            bells: (0..queues).map(|_| bells()).collect(),
            rings: Vec::new(),
            incarnation: 0,
            storage: Arc::new(storage),
            layers: Vec::new(),
            channel: Channel::pair().unwrap().0,
            process: None,
            beats: 0,
        };
        supervisor.begin(false);
        supervisor
    }

    fn fresh_rings(&mut self) {
        self.layers.clear();
        self.incarnation += 1;
        let geometry = RingGeometry::new(SHAPE.entries, SHAPE.arena).unwrap();
        self.rings =
            (0..self.queues).map(|_| create(geometry, self.incarnation).unwrap()).collect();
        for (ring, bells) in self.rings.iter().zip(&self.bells) {
            self.layers.push(Layer::start(ring, self.incarnation, bells, &self.storage));
        }
    }

    fn begin(&mut self, own_fault: bool) {
        self.fresh_rings();
        let plan = BlkPlan {
            disk: DiskInfo {
                size: DISK,
                logical_block: 512,
                physical_block: 512,
                optimal_io: 0,
                read_only: false,
                discard: true,
                flush: true,
            },
            serial: "rig".into(),
            queues: QueuePlan { queues: self.queues, queue_size: 256, own_fault },
            ring: SHAPE,
            incarnation: self.incarnation,
            cpus: Vec::new(),
        };
        let mut fds = vec![self.table.try_clone().unwrap()];
        for (ring, bells) in self.rings.iter().zip(&self.bells) {
            fds.push(ring.try_clone().unwrap());
            fds.extend(bells.each_ref().map(|bell| bell.try_clone().unwrap().into_fd()));
        }
        let (ours, theirs) = Channel::pair().unwrap();
        self.channel = ours;
        self.process = Some(thread::spawn(move || {
            let poller = Poller::new()?;
            let crew = Crew::gather(usize::from(plan.queues.queues) - 1)?;
            let live = Live::open(&plan, fds).unwrap();
            let Live { identity, table, queues, commands } = live;
            Process::new(Unsealed(theirs), commands, identity, table, queues, crew, poller)?.run()
        }));
    }

    /// The process ends at once, as if killed: nothing is drained. Its successor begins.
    pub fn restart(&mut self) {
        self.channel.send(&ToHelper::<BlkCommand>::Stop, &[]).unwrap();
        self.process.take().unwrap().join().unwrap().unwrap();
        self.begin(false);
    }

    /// The block layer dies and is replaced.
    pub fn restart_layer(&mut self) {
        self.fresh_rings();
        let (queues, incarnation) = (self.queues, self.incarnation);
        let command = BlkCommand::RingReplaced { queues, incarnation, own_fault: false };
        let rings: Vec<_> = self.rings.iter().map(AsFd::as_fd).collect();
        self.channel.send(&ToHelper::Role(command), &rings).unwrap();
    }

    /// A frontend connects.
    pub fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let command = ToHelper::Role(BlkCommand::Connection);
        self.channel.send(&command, &[theirs.as_fd()]).unwrap();
        ours
    }

    pub fn frontend(&self, options: Options) -> (Frontend, Vec<Queue>) {
        Frontend::over(self.connect(), "nowhere".as_ref(), options).unwrap()
    }

    /// The next thing the process says.
    pub fn next(&self) -> FromHelper<DeviceEvent> {
        self.channel.receive_by(Deadline::after(LONG)).unwrap().0
    }

    /// As [`next`](Self::next), besides that it made progress.
    pub fn hear(&self) -> FromHelper<DeviceEvent> {
        loop {
            match self.next() {
                FromHelper::Progressed => {}
                other => return other,
            }
        }
    }

    pub fn event(&self) -> DeviceEvent {
        match self.hear() {
            FromHelper::Role(event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// A heartbeat and its answer; answers the progress.
    pub fn beat(&mut self) -> u64 {
        self.beats += 1;
        self.channel.send(&ToHelper::<BlkCommand>::Heartbeat(self.beats), &[]).unwrap();
        match self.hear() {
            FromHelper::Alive { number, progress } if number == self.beats => progress,
            other => panic!("{other:?}"),
        }
    }

    /// The block layer of the first queue completes what it was not given.
    pub fn lie(&mut self) {
        self.layers.clear();
        let geometry = RingGeometry::new(SHAPE.entries, SHAPE.arena).unwrap();
        let ring = self.rings.first().unwrap();
        let mut server: Server<BlockRequest, BlockCompletion> =
            Server::attach(ring, geometry, self.incarnation).unwrap();
        let answer = BlockCompletion { tag: 77, status: 0, reserved: [0; 5] };
        server.complete.push(answer).unwrap();
        server.complete.publish().ring(&self.bells[0][1]);
    }

    /// Waits until the block layer has taken so many requests in all.
    pub fn await_taken(&self, count: u64) {
        let end = Instant::now() + LONG;
        while self.storage.taken.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < end, "the requests never came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The outcome of a process that ends by itself.
    pub fn outcome(&mut self) -> Result<(), ProcessError> {
        self.process.take().unwrap().join().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = self.channel.send(&ToHelper::<BlkCommand>::Stop, &[]);
            let _ = process.join();
        }
    }
}

/// Waits for the next completion.
pub fn wait(queue: &mut Queue) -> Completion {
    queue.wait(LONG).unwrap().expect("an answer")
}
