//! A queue of the disk between an honest driver and a block layer of the test's own, in one thread.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulkhead_backend_kit::{InflightTable, LiveQueue, QueueStart};
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest, FLAG_FUA, Operation};
use bulkhead_protocol::device::{DiskInfo, QueuePlan};
use bulkhead_protocol::inflight::table_size;
use bulkhead_ring::{Client, RingGeometry, Server, create};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_virtqueue::QueueSetup;
use bulkhead_virtqueue::driver::{PackedDriver, Segment, SplitDriver, Used, layout, ram};

use super::*;

mod hostile;
mod pieces;
mod recovery;
mod requests;

const RAM: u64 = 32 << 20;
const QUEUE: u64 = 0x1000;
const SIZE: u16 = 64;
/// Where requests of the tests lie; each may take 8 MiB.
const HEADERS: u64 = 0x20000;
const DATA: u64 = 0x100000;

const DISK: u64 = 16 << 20;

fn info() -> DiskInfo {
    DiskInfo {
        size: DISK,
        logical_block: 512,
        physical_block: 512,
        optimal_io: 0,
        read_only: false,
        discard: true,
        flush: true,
    }
}

enum Driver {
    Split(SplitDriver),
    Packed(PackedDriver),
}

/// All there is around a queue.
struct Rig {
    memory: GuestMemory,
    _ram: OwnedFd,
    driver: Driver,
    setup: QueueSetup,
    packed: bool,
    table: OwnedFd,
    geometry: RingGeometry,
    bells: [Doorbell; 2],
    incarnation: u64,
    queues: [Option<LiveQueue>; 1],
    device: BlkQueue,
    layer: Layer,
    info: DiskInfo,
    features: u64,
    headers: u64,
}

/// A block layer in memory.
struct Layer {
    server: Server<BlockRequest, BlockCompletion>,
    image: Vec<u8>,
    /// What it was asked, in order.
    seen: Vec<BlockRequest>,
    /// Not completed yet.
    held: Vec<BlockRequest>,
}

impl Layer {
    fn take(&mut self) {
        while let Some(request) = self.server.submit.pop().unwrap() {
            self.seen.push(request);
            self.held.push(request);
        }
    }

    /// Performs the held request at `place` and completes it.
    fn complete(&mut self, place: usize) {
        let request = self.held.remove(place);
        let range = request.offset as usize..request.offset as usize + request.len as usize;
        let span = || self.server.arena.check(request.span.into(), request.len.into()).unwrap();
        match request.operation().unwrap() {
            Operation::Read => span().copy_out(&self.image[range]).unwrap(),
            Operation::Write => span().copy_in(&mut self.image[range]).unwrap(),
            Operation::Flush => {}
            _ => self.image[range].fill(0),
        }
        self.answer(request.tag, 0);
    }

    fn answer(&mut self, tag: u64, status: u32) {
        let completion = BlockCompletion { tag, status, reserved: [0; 5] };
        self.server.complete.push(completion).unwrap();
        let _ = self.server.complete.publish();
    }

    fn complete_all(&mut self) {
        self.take();
        while !self.held.is_empty() {
            self.complete(0);
        }
    }
}

impl Rig {
    fn new(packed: bool, info: DiskInfo) -> Self {
        Self::with(packed, info, RingGeometry::new(16, 2 << 20).unwrap())
    }

    fn with(packed: bool, info: DiskInfo, geometry: RingGeometry) -> Self {
        let (memory, ram) = ram(RAM);
        let addresses = layout(QUEUE, SIZE);
        let setup = QueueSetup { size: SIZE, addresses, event_idx: true, indirect: true };
        let driver = match packed {
            true => Driver::Packed(PackedDriver::new(&memory, setup)),
            false => Driver::Split(SplitDriver::new(&memory, setup)),
        };
        let bells = [Doorbell::new().unwrap(), Doorbell::new().unwrap()];
        let (client, server) = ring(geometry, 1);
        let layer =
            Layer { server, image: vec![0; DISK as usize], seen: Vec::new(), held: Vec::new() };
        let device = device(info, client, geometry, &bells);
        let mut rig = Self {
            memory,
            _ram: ram,
            driver,
            setup,
            packed,
            table: create_sealed("inflight", table_size(1, SIZE)).unwrap(),
            geometry,
            bells,
            incarnation: 1,
            queues: [None],
            device,
            layer,
            info,
            features: 1 << 9,
            headers: 0,
        };
        rig.start(false);
        rig
    }

    fn start(&mut self, own_fault: bool) {
        let plan = QueuePlan { queues: 1, queue_size: SIZE, own_fault };
        let table = InflightTable::map(plan, self.table.try_clone().unwrap()).unwrap();
        let start = QueueStart {
            index: 0,
            setup: self.setup,
            packed: self.packed,
            features: self.features,
            memory: self.memory.clone(),
            base: if self.packed { 0x8000_8000 } else { 0 },
            kick: Doorbell::new().unwrap(),
            call: None,
            err: None,
            table: Some(Arc::new(table)),
            enabled: true,
            own_fault,
        };
        self.queues = [Some(LiveQueue::start(start).unwrap())];
    }

    /// This process dies; its successor gets a fresh ring, on which nothing of the old one is left.
    fn succeed(&mut self, own_fault: bool) {
        self.fresh_ring();
        let (client, server) = ring(self.geometry, self.incarnation);
        self.layer.server = server;
        self.device = device(self.info, client, self.geometry, &self.bells);
        self.start(own_fault);
    }

    fn fresh_ring(&mut self) {
        self.incarnation += 1;
        self.layer.held.clear();
        self.layer.seen.clear();
    }

    /// The block layer dies and is replaced.
    fn replace_layer(&mut self, own_fault: bool) {
        self.fresh_ring();
        let (client, server) = ring(self.geometry, self.incarnation);
        self.layer.server = server;
        let order = Order::Ring { client: Box::new(client), own_fault };
        self.device.order(order, &mut self.queues).unwrap();
    }

    /// The device's turn, until it has no more to do.
    fn serve(&mut self) {
        while self.device.serve(&mut self.queues).unwrap() {}
        self.queues.iter_mut().flatten().for_each(LiveQueue::flush);
    }

    /// Device and block layer, until both have no more to do.
    fn settle(&mut self) {
        self.serve();
        self.layer.take();
        while !self.layer.held.is_empty() {
            self.layer.complete_all();
            self.serve();
            self.layer.take();
        }
    }

    fn put(&self, addr: u64, bytes: &[u8]) {
        let place = self.memory.check(GuestRange::new(addr, bytes.len() as u64)).unwrap();
        place.copy_out(bytes).unwrap();
    }

    fn get(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.check(GuestRange::new(addr, len as u64)).unwrap().copy_in(&mut bytes).unwrap();
        bytes
    }

    /// Adds a request of header, data and status in a descriptor each; answers its id and where its
    /// status will be.
    fn add(&mut self, kind: u32, sector: u64, data: &[Segment]) -> (u16, u64) {
        let header = HEADERS + 64 * (self.headers % 512);
        self.headers += 1;
        let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.put(header, &bytes);
        let status = header + 32;
        self.put(status, &[0xee]);
        let mut segments = vec![Segment::read(header, 16)];
        segments.extend(data);
        segments.push(Segment::write(status, 1));
        (self.add_raw(&segments), status)
    }

    fn add_raw(&mut self, segments: &[Segment]) -> u16 {
        match &mut self.driver {
            Driver::Split(driver) => driver.add(segments),
            Driver::Packed(driver) => driver.add(segments),
        }
        .unwrap()
    }

    fn poll(&mut self) -> Option<Used> {
        match &mut self.driver {
            Driver::Split(driver) => driver.poll(),
            Driver::Packed(driver) => driver.poll(),
        }
    }

    /// Adds a request, lets all serve it, and answers status and bytes written.
    fn run(&mut self, kind: u32, sector: u64, data: &[Segment]) -> (u8, u32) {
        let (id, status) = self.add(kind, sector, data);
        self.settle();
        let used = self.poll().expect("an answer");
        assert_eq!(used.id, id);
        (self.get(status, 1)[0], used.written)
    }
}

fn ring(
    geometry: RingGeometry,
    incarnation: u64,
) -> (BlockClient, Server<BlockRequest, BlockCompletion>) {
    let fd = create(geometry, incarnation).unwrap();
    let client = Client::attach(&fd, geometry, incarnation).unwrap();
    (client, Server::attach(&fd, geometry, incarnation).unwrap())
}

fn device(
    info: DiskInfo,
    client: BlockClient,
    geometry: RingGeometry,
    bells: &[Doorbell; 2],
) -> BlkQueue {
    let [submit, complete] = bells.each_ref().map(|bell| bell.try_clone().unwrap());
    let link = Link::new(client, geometry, submit, complete);
    BlkQueue::new(Disk::new(info, "serial-number"), link, SIZE, None)
}

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Bytes that tell where they belong.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (seed.wrapping_mul(131) + at / 512 * 7 + at) as u8).collect()
}
