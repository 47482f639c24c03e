use std::sync::Arc;

use bulkhead_backend_kit::{InflightTable, QueueStart};
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::device::QueuePlan;
use bulkhead_protocol::inflight::table_size;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_virtqueue::QueueSetup;
use bulkhead_virtqueue::driver::{PackedDriver, Segment, layout, ram};

use super::*;

const RAM: u64 = 1 << 20;
const SIZE: u16 = 64;

fn queue(memory: &GuestMemory) -> (PackedDriver, LiveQueue) {
    let setup =
        QueueSetup { size: SIZE, addresses: layout(0x1000, SIZE), event_idx: true, indirect: true };
    let plan = QueuePlan { queues: 1, queue_size: SIZE, own_fault: false };
    let table = create_sealed("inflight", table_size(1, SIZE)).unwrap();
    let start = QueueStart {
        index: 0,
        setup,
        packed: true,
        features: 0,
        memory: memory.clone(),
        base: 0x8000_8000,
        kick: Doorbell::new().unwrap(),
        call: None,
        err: None,
        table: Some(Arc::new(InflightTable::map(plan, table).unwrap())),
        enabled: true,
        own_fault: false,
    };
    (PackedDriver::new(memory, setup), LiveQueue::start(start).unwrap())
}

fn get(memory: &GuestMemory, addr: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    memory.check(GuestRange::new(addr, len)).unwrap().copy_in(&mut bytes).unwrap();
    bytes
}

#[test]
fn buffers_are_filled_to_their_last_byte_and_not_beyond() {
    let (memory, _ram) = ram(RAM);
    let (mut driver, queue) = queue(&memory);
    let mut queues = [Some(queue)];
    driver.add(&[Segment::write(0x8000, 30), Segment::write(0x9000, 34)]).unwrap();
    let mut rng = Rng::default();
    assert!(rng.serve(&mut queues).unwrap() && !rng.serve(&mut queues).unwrap());
    assert_eq!(driver.poll().map(|used| used.written), Some(64));
    // 30 zeroes in a row from this generator have not been seen since the Big Bang.
    assert!(get(&memory, 0x8000, 30).iter().any(|byte| *byte != 0));
    assert!(get(&memory, 0x9000 + 4, 30).iter().any(|byte| *byte != 0));
    assert_eq!(get(&memory, 0x8000 + 30, 64), [0; 64]);
    assert_eq!(get(&memory, 0x9000 + 34, 64), [0; 64]);
}

#[test]
fn a_long_buffer_is_filled_in_part() {
    let (memory, _ram) = ram(RAM);
    let (mut driver, queue) = queue(&memory);
    let mut queues = [Some(queue)];
    driver.add(&[Segment::write(0x8000, 500_000)]).unwrap();
    Rng::default().serve(&mut queues).unwrap();
    assert_eq!(driver.poll().map(|used| used.written), Some(4096));
    assert_eq!(get(&memory, 0x9000, 64), [0; 64]);
}

#[test]
fn a_request_without_room_is_given_back_empty() {
    let (memory, _ram) = ram(RAM);
    let (mut driver, queue) = queue(&memory);
    let mut queues = [Some(queue)];
    driver.add(&[Segment::read(0x8000, 64)]).unwrap();
    Rng::default().serve(&mut queues).unwrap();
    assert_eq!(driver.poll().map(|used| used.written), Some(0));
}

#[test]
fn a_greedy_guest_gets_a_bounded_turn() {
    let (memory, _ram) = ram(RAM);
    let (mut driver, queue) = queue(&memory);
    let mut queues = [Some(queue)];
    for _ in 0..SIZE {
        driver.add(&[Segment::write(0x8000, 4096)]).unwrap();
    }
    let mut rng = Rng::default();
    assert!(rng.serve(&mut queues).unwrap());
    assert_eq!(std::iter::from_fn(|| driver.poll()).count(), MOST_REQUESTS);
    assert!(rng.serve(&mut queues).unwrap());
}
