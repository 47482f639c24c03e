//! The other side of the block layer for tests: a disk, the supervisor's part and the rings' clients.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bulkhead_protocol::block::{
    BlockAnswer, BlockOrder, BlockPlan, ExportPlan, JOURNAL_BYTES, JobPlan, LayerFormat,
    NamedLayer, NodePlan, Qcow2Plan,
};
use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest};
use bulkhead_protocol::device::RingShape;
use bulkhead_protocol::spec::{CacheMode, Part};
use bulkhead_ring::{Client, RingGeometry};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::mapping::{Rights, SharedMapping};
use tempfile::NamedTempFile;

use super::super::*;
use crate::qcow2::create::{Wanted, create};
use crate::storage::Plain;
use crate::task::finish;

pub const PAGE: u64 = 4096;
pub const SIZE: u64 = 4 << 20;
const SHAPE: RingShape = RingShape { entries: 128, arena: 1 << 20 };
const O_DIRECT: i32 = 0o40000;

/// Offset of the submission ring's tail in a ring object.
const TAIL: usize = 128;

#[derive(Debug)]
pub struct Disk {
    file: NamedTempFile,
    cache: CacheMode,
    qcow2: bool,
    /// Linux AIO.
    native: bool,
}

impl Disk {
    pub fn memory() -> Self {
        Self::new(CacheMode::Writeback, "/dev/shm")
    }

    pub fn file(cache: CacheMode) -> Self {
        // Beside the build's output: a real file system, where /tmp may be none.
        Self::new(cache, env!("CARGO_MANIFEST_DIR"))
    }

    /// A file past the page cache, of which the kernel makes the transfers by itself.
    pub fn native() -> Self {
        Self { native: true, ..Self::file(CacheMode::None) }
    }

    fn new(cache: CacheMode, folder: &str) -> Self {
        let file = NamedTempFile::new_in(folder).unwrap();
        file.as_file().set_len(SIZE).unwrap();
        Self { file, cache, qcow2: false, native: false }
    }

    /// An empty image.
    pub fn qcow2(cache: CacheMode, folder: &str) -> Self {
        let disk = Self { qcow2: true, ..Self::new(cache, folder) };
        disk.file.as_file().set_len(0).unwrap();
        let plain = Plain::new(disk.file.reopen().unwrap().into(), true).unwrap();
        finish(create(&plain, &Wanted { size: SIZE, ..Wanted::default() })).unwrap();
        disk
    }

    pub fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    fn direct(&self, lanes: usize) -> Vec<Direct> {
        let lanes = if self.native { lanes } else { 0 };
        (0..lanes).map(|_| Direct::new().unwrap()).collect()
    }

    fn open(&self) -> OwnedFd {
        let flags = if self.cache == CacheMode::None { O_DIRECT } else { 0 };
        let file =
            File::options().read(true).write(true).custom_flags(flags).open(self.file.path());
        file.unwrap().into()
    }

    pub fn content(&self, page: u64) -> Vec<u8> {
        let mut bytes = vec![0xAA; PAGE as usize];
        self.file.as_file().read_exact_at(&mut bytes, page * PAGE).unwrap();
        bytes
    }

    pub fn cut(&self, len: u64) {
        self.file.as_file().set_len(len).unwrap();
    }
}

pub fn disks() -> [Disk; 4] {
    let files = [CacheMode::Writeback, CacheMode::None].map(Disk::file);
    let [cached, direct] = files;
    [Disk::memory(), cached, direct, Disk::native()]
}

pub fn stamp(number: u8) -> Vec<u8> {
    vec![number; PAGE as usize]
}

struct Queue {
    export: usize,
    client: Client<BlockRequest, BlockCompletion>,
    ring: OwnedFd,
    submit: Doorbell,
}

pub struct Rig {
    pub executor: Executor,
    queues: Vec<Queue>,
    incarnation: u64,
    events: Vec<BlockEvent>,
    orders: u64,
}

fn geometry() -> RingGeometry {
    RingGeometry::new(SHAPE.entries, SHAPE.arena).unwrap()
}

/// A plan, its descriptors, and for each queue its ring and submission doorbell.
pub fn plan(disk: &Disk, exports: &[u16]) -> (BlockPlan, Vec<OwnedFd>, Vec<(OwnedFd, Doorbell)>) {
    let (mut fds, mut ends) = (vec![disk.open()], Vec::new());
    if disk.qcow2 {
        fds.push(bulkhead_sys::memfd::create_sealed("journal", JOURNAL_BYTES).unwrap());
    }
    let exports = exports.iter().enumerate().map(|(number, queues)| {
        for _ in 0..*queues {
            let ring = bulkhead_ring::create(geometry(), 1).unwrap();
            let (submit, complete) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
            fds.push(ring.try_clone().unwrap());
            fds.push(submit.try_clone().unwrap().into_fd());
            fds.push(complete.into_fd());
            ends.push((ring, submit));
        }
        ExportPlan {
            export: number as u32,
            queues: *queues,
            ring: SHAPE,
            incarnation: 1,
            read_only: false,
            bitmap: None,
            cpus: Vec::new(),
        }
    });
    let exports = exports.collect();
    let (cache, discard, read_only) = (disk.cache, true, false);
    let node = match disk.qcow2 {
        false => NodePlan::Raw { cache, discard, read_only, part: Part::default() },
        true => {
            let (data_file, backing) = (false, Vec::new());
            NodePlan::Qcow2(Qcow2Plan {
                cache,
                discard,
                read_only,
                data_file,
                secret: false,
                backing,
            })
        }
    };
    let format = if disk.qcow2 { LayerFormat::Qcow2 } else { LayerFormat::Raw };
    let layers = vec![NamedLayer { layer: 0, name: "the disk".to_owned(), format }];
    (BlockPlan { layers, ..BlockPlan::serving(node, exports) }, fds, ends)
}

impl Rig {
    pub fn new(disk: &Disk, queues: u16) -> Self {
        Self::build(disk, &[queues], Vec::new(), |_| {})
    }

    /// One that has a predecessor's jobs, with their descriptors.
    pub fn inheriting(disk: &Disk, jobs: Vec<JobPlan>, fds: Vec<OwnedFd>) -> Self {
        Self::build(disk, &[1], fds, |plan| plan.jobs = jobs)
    }

    pub fn with(disk: &Disk, queues: u16, change: impl FnOnce(&mut BlockPlan)) -> Self {
        Self::build(disk, &[queues], Vec::new(), change)
    }

    pub fn with_exports(disk: &Disk, exports: &[u16]) -> Self {
        Self::build(disk, exports, Vec::new(), |_| {})
    }

    fn build(
        disk: &Disk,
        exports: &[u16],
        more: Vec<OwnedFd>,
        change: impl FnOnce(&mut BlockPlan),
    ) -> Self {
        let lanes = exports.iter().map(|queues| usize::from(*queues)).sum();
        let (mut plan, mut fds, ends) = plan(disk, exports);
        fds.extend(more);
        change(&mut plan);
        let owners = exports.iter().enumerate();
        let owners = owners.flat_map(|(export, queues)| vec![export; usize::from(*queues)]);
        let queues = ends.into_iter().zip(owners).map(|((ring, submit), export)| Queue {
            export,
            client: Client::attach(&ring, geometry(), 1).unwrap(),
            ring,
            submit,
        });
        let queues = queues.collect();
        let mut executor = Executor::start(lanes, 4, disk.direct(lanes)).unwrap();
        executor.command(BlockCommand::Plan(Box::new(plan)), fds).unwrap();
        let opened = executor.events().next();
        assert!(matches!(opened, Some(BlockEvent::Opened(_))), "{opened:?}");
        Self { executor, queues, incarnation: 1, events: Vec::new(), orders: 1000 }
    }

    /// What `main` does between two sleeps.
    fn turn(&mut self) {
        self.executor.read_mail();
        self.executor.due();
        self.events.extend(self.executor.events());
        std::thread::yield_now();
    }

    pub fn settle(&mut self) {
        self.heartbeat(u64::MAX);
    }

    pub fn heartbeat(&mut self, number: u64) -> Alive {
        self.executor.heartbeat(number);
        loop {
            self.turn();
            if let Some(alive) = self.executor.alive() {
                return alive;
            }
        }
    }

    pub fn fill(&mut self, queue: usize, span: u32, bytes: &[u8]) {
        let arena = &self.queues[queue].client.arena;
        arena.check(u64::from(span), bytes.len() as u64).unwrap().copy_out(bytes).unwrap();
    }

    pub fn bytes(&self, queue: usize, span: u32) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        let arena = &self.queues[queue].client.arena;
        arena.check(u64::from(span), PAGE).unwrap().copy_in(&mut bytes).unwrap();
        bytes
    }

    pub fn submit(&mut self, queue: usize, request: BlockRequest) {
        assert!(self.try_submit(queue, request), "the ring is full");
    }

    pub fn try_submit(&mut self, queue: usize, request: BlockRequest) -> bool {
        let Queue { client, submit, .. } = &mut self.queues[queue];
        let fits = client.submit.push(request).is_ok();
        client.submit.publish().ring(submit);
        fits
    }

    /// The next `count` completions as (tag, status).
    pub fn take(&mut self, queue: usize, count: usize) -> Vec<(u64, u32)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            self.turn();
            while let Some(completion) = self.queues[queue].client.complete.pop().unwrap() {
                taken.push((completion.tag, completion.status));
            }
        }
        taken
    }

    /// The next completion, if there is one once everybody has had a turn.
    pub fn try_take(&mut self, queue: usize) -> Option<(u64, u32)> {
        self.settle();
        self.settle();
        let completion = self.queues[queue].client.complete.pop().unwrap();
        completion.map(|completion| (completion.tag, completion.status))
    }

    /// Gives an order; its answer comes as an event.
    pub fn order(&mut self, call: u64, order: BlockOrder) {
        self.executor.command(BlockCommand::Order { call, order }, Vec::new()).unwrap();
    }

    /// What an order is answered; other events are dropped.
    pub fn answer(&mut self, call: u64) -> BlockAnswer {
        loop {
            if let BlockEvent::Answer { call: answered, answer } = self.next_event() {
                assert_eq!(answered, call);
                return answer;
            }
        }
    }

    pub fn expect(&mut self, queue: usize, count: usize) {
        for (tag, status) in self.take(queue, count) {
            assert_eq!(status, 0, "request {tag} of queue {queue}");
        }
    }

    pub fn call(&mut self, queue: usize, request: BlockRequest) -> u32 {
        self.submit(queue, request);
        self.take(queue, 1)[0].1
    }

    pub fn poll_event(&mut self) -> Option<BlockEvent> {
        self.turn();
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    pub fn next_event(&mut self) -> BlockEvent {
        loop {
            if let Some(event) = self.poll_event() {
                return event;
            }
        }
    }

    /// Until there is one that is meant; those before it are of no interest.
    pub fn event_like(&mut self, is_it: impl Fn(&BlockEvent) -> bool) -> BlockEvent {
        loop {
            let event = self.next_event();
            if is_it(&event) {
                return event;
            }
        }
    }

    /// Gives an order, and waits for its answer.
    pub fn ask(&mut self, order: BlockOrder, fds: Vec<OwnedFd>) -> BlockAnswer {
        self.orders += 1;
        let number = self.orders;
        self.executor.command(BlockCommand::Order { call: number, order }, fds).unwrap();
        let is_it = |event: &BlockEvent| matches!(event, BlockEvent::Answer { call, .. } if *call == number);
        match self.event_like(is_it) {
            BlockEvent::Answer { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn detach(&mut self) {
        self.executor.command(BlockCommand::Detach { export: 0 }, Vec::new()).unwrap();
    }

    /// Fresh rings for export 0.
    pub fn attach(&mut self) {
        self.incarnation += 1;
        let incarnation = self.incarnation;
        let mut fds = Vec::new();
        for queue in self.queues.iter_mut().filter(|queue| queue.export == 0) {
            queue.ring = bulkhead_ring::create(geometry(), incarnation).unwrap();
            queue.client = Client::attach(&queue.ring, geometry(), incarnation).unwrap();
            fds.push(queue.ring.try_clone().unwrap());
        }
        let queues = fds.len() as u16;
        let attach = BlockCommand::Attach { export: 0, queues, incarnation };
        self.executor.command(attach, fds).unwrap();
    }

    /// Writes an index into the queue's ring that no honest client could have reached.
    pub fn forge_index(&mut self, queue: usize) {
        let Queue { ring, submit, .. } = &self.queues[queue];
        let map = SharedMapping::map(ring, 4096, Rights::ReadWrite).unwrap();
        let tail = map.atomic_u32(TAIL).unwrap();
        tail.store(0x8000_0000, std::sync::atomic::Ordering::SeqCst);
        submit.ring();
    }
}
