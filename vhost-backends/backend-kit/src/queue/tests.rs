//! Queues that are killed at any store, and their successors.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::device::QueuePlan;
use bulkhead_protocol::inflight::table_size;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_virtqueue::driver::{PackedDriver, Segment, SplitDriver, Used, layout, ram};
use bulkhead_virtqueue::{Chain, QueueSetup};
use proptest::prelude::*;

use super::*;
use crate::inflight::{InflightTable, death};

mod hostile;
mod kills;
mod poison;

const RAM: u64 = 1 << 20;
const QUEUE: u64 = 0x1000;
const DATA: u64 = 0x40000;

/// The driver's side of either kind of queue.
enum Driver {
    Split(SplitDriver),
    Packed(PackedDriver),
}

impl Driver {
    fn add(&mut self, segments: &[Segment]) -> Option<u16> {
        match self {
            Self::Split(driver) => driver.add(segments),
            Self::Packed(driver) => driver.add(segments),
        }
    }

    fn poll(&mut self) -> Option<Used> {
        match self {
            Self::Split(driver) => driver.poll(),
            Self::Packed(driver) => driver.poll(),
        }
    }
}

/// What outlives a process: guest memory and the in-flight table.
struct World {
    memory: GuestMemory,
    _ram: OwnedFd,
    table: OwnedFd,
    setup: QueueSetup,
    packed: bool,
    driver: Driver,
}

impl World {
    fn new(size: u16, packed: bool) -> Self {
        let (memory, ram) = ram(RAM);
        let addresses = layout(QUEUE, size);
        let setup = QueueSetup { size, addresses, event_idx: true, indirect: true };
        let driver = match packed {
            true => Driver::Packed(PackedDriver::new(&memory, setup)),
            false => Driver::Split(SplitDriver::new(&memory, setup)),
        };
        let table = create_sealed("inflight", table_size(1, size)).unwrap();
        Self { memory, _ram: ram, table, setup, packed, driver }
    }

    fn table(&self) -> InflightTable {
        let plan = QueuePlan { queues: 1, queue_size: self.setup.size, own_fault: false };
        InflightTable::map(plan, self.table.try_clone().unwrap()).unwrap()
    }

    fn start(&self, own_fault: bool) -> QueueStart {
        QueueStart {
            index: 0,
            setup: self.setup,
            packed: self.packed,
            features: 0,
            memory: self.memory.clone(),
            base: if self.packed { 0x8000_8000 } else { 0 },
            kick: Doorbell::new().unwrap(),
            call: None,
            err: None,
            table: Some(Arc::new(self.table())),
            enabled: true,
            own_fault,
        }
    }

    fn queue(&self) -> LiveQueue {
        LiveQueue::start(self.start(false)).unwrap()
    }

    /// Overwrites a part of the table.
    fn scribble(&self, offset: usize, bytes: &[u8]) {
        let len = table_size(1, self.setup.size) as usize;
        let rights = bulkhead_sys::mapping::Rights::ReadWrite;
        let mapping = bulkhead_sys::mapping::SharedMapping::map(&self.table, len, rights).unwrap();
        mapping.copy_out(offset, bytes).unwrap();
    }
}

/// Takes one request.
fn take(queue: &mut LiveQueue) -> Option<(Taken, Chain)> {
    let mut chain = Chain::default();
    queue.take(&mut chain).map(|taken| (taken, chain))
}

fn token(taken: Taken) -> Token {
    match taken {
        Taken::Request(token) | Taken::Poison(token) => token,
    }
}
