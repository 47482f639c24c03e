//! Both ends of a queue in one process: an honest driver, a stranger as a second device, a hostile
//! guest.

mod fuzz;
mod honest;
mod hostile;
mod recovery;
mod stranger;

use bulkhead_memory::GuestMemory;

use crate::driver::{PackedDriver, Segment, SplitDriver, Used, layout, ram};
use crate::{
    Chain, PackedPosition, PackedQueue, QueueFault, QueueSetup, SplitPosition, SplitQueue,
};

/// Guest memory of the tests.
const RAM: u64 = 1 << 20;
/// Where the queue lies in it.
const QUEUE: u64 = 0x1000;
/// Where data and indirect tables may lie.
const DATA: u64 = 0x40000;

fn setup(size: u16, event_idx: bool) -> QueueSetup {
    QueueSetup { size, addresses: layout(QUEUE, size), event_idx, indirect: true }
}

/// Both ends of a queue of either kind.
enum Pair {
    Split(SplitDriver, SplitQueue),
    Packed(PackedDriver, PackedQueue),
}

impl Pair {
    fn new(memory: &GuestMemory, setup: QueueSetup, packed: bool) -> Self {
        if packed {
            let (at, driver) = (PackedPosition::START, PackedDriver::new(memory, setup));
            return Pair::Packed(driver, PackedQueue::new(memory, &setup, at, at).unwrap());
        }
        let at = SplitPosition { available: 0, used: 0 };
        let queue = SplitQueue::new(memory, &setup, at).unwrap();
        Pair::Split(SplitDriver::new(memory, setup), queue)
    }

    fn add(&mut self, segments: &[Segment]) -> Option<u16> {
        match self {
            Pair::Split(driver, _) => driver.add(segments),
            Pair::Packed(driver, _) => driver.add(segments),
        }
    }

    fn add_indirect(&mut self, segments: &[Segment], table: u64) -> Option<u16> {
        match self {
            Pair::Split(driver, _) => driver.add_indirect(segments, 0, table),
            Pair::Packed(driver, _) => driver.add_indirect(segments, table),
        }
    }

    fn wants_kick(&mut self) -> bool {
        match self {
            Pair::Split(driver, _) => driver.wants_kick(),
            Pair::Packed(driver, _) => driver.wants_kick(),
        }
    }

    fn poll(&mut self) -> Option<Used> {
        match self {
            Pair::Split(driver, _) => driver.poll(),
            Pair::Packed(driver, _) => driver.poll(),
        }
    }

    fn want_calls(&mut self) -> bool {
        match self {
            Pair::Split(driver, _) => driver.want_calls(),
            Pair::Packed(driver, _) => driver.want_calls(),
        }
    }

    fn take(&mut self, memory: &GuestMemory, chain: &mut Chain) -> Result<bool, QueueFault> {
        match self {
            Pair::Split(_, queue) => queue.take(memory, chain),
            Pair::Packed(_, queue) => queue.take(memory, chain),
        }
    }

    /// Gives back and publishes.
    fn give_back(&mut self, chain: &Chain, written: u32) {
        match self {
            Pair::Split(_, queue) => {
                queue.give_back(chain.id(), written).unwrap();
                queue.publish().unwrap();
            }
            Pair::Packed(_, queue) => queue.give_back(chain.id(), chain.slots(), written).unwrap(),
        }
    }

    fn wants_call(&mut self) -> bool {
        match self {
            Pair::Split(_, queue) => queue.wants_call().unwrap(),
            Pair::Packed(_, queue) => queue.wants_call().unwrap(),
        }
    }

    fn want_kicks(&mut self) -> bool {
        match self {
            Pair::Split(_, queue) => queue.want_kicks().unwrap(),
            Pair::Packed(_, queue) => queue.want_kicks().unwrap(),
        }
    }

    fn forgo_kicks(&mut self) {
        match self {
            Pair::Split(_, queue) => queue.forgo_kicks().unwrap(),
            Pair::Packed(_, queue) => queue.forgo_kicks().unwrap(),
        }
    }

    fn in_flight(&self) -> u16 {
        match self {
            Pair::Split(_, queue) => queue.in_flight(),
            Pair::Packed(_, queue) => queue.in_flight(),
        }
    }
}

/// What a chain must be for these segments.
fn assert_is(chain: &Chain, segments: &[Segment]) {
    let wanted = |writes: bool| {
        let of_kind = segments.iter().filter(move |segment| segment.device_writes == writes);
        of_kind.filter(|segment| segment.len > 0).map(|segment| (segment.addr, segment.len.into()))
    };
    let found: Vec<_> =
        chain.readable.ranges().iter().map(|range| (range.addr, range.len)).collect();
    assert_eq!(found, wanted(false).collect::<Vec<(u64, u64)>>());
    let found: Vec<_> =
        chain.writable.ranges().iter().map(|range| (range.addr, range.len)).collect();
    assert_eq!(found, wanted(true).collect::<Vec<(u64, u64)>>());
}
