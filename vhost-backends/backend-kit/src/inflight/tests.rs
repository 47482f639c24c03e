use std::os::fd::AsFd;

use bulkhead_protocol::device::QueuePlan;
use bulkhead_protocol::inflight::table_size;
use bulkhead_sys::memfd::create_sealed;

use super::*;
use crate::wire::TableShape;

const PLAN: QueuePlan = QueuePlan { queues: 2, queue_size: 128, own_fault: false };

fn table() -> InflightTable {
    InflightTable::map(PLAN, create_sealed("inflight", table_size(2, 128)).unwrap()).unwrap()
}

#[test]
fn absurd_wishes_are_refused_and_smaller_ones_get_the_whole_table() {
    let wish = |queues, queue_size| TableShape { len: 0, offset: 0, queues, queue_size };
    let table = table();
    let shape = table.shape(wish(1, 64)).unwrap();
    assert_eq!((shape.len, shape.queues, shape.queue_size), (table_size(2, 128), 1, 64));
    table.accepts(shape).unwrap();
    assert!(table.shape(wish(3, 64)).is_none());
    assert!(table.shape(wish(2, 129)).is_none());
    assert!(table.shape(wish(u16::MAX, u16::MAX)).is_none());
    assert!(table.accepts(TableShape { offset: 4096, ..shape }).is_err());
    assert!(table.accepts(TableShape { len: 4096, ..shape }).is_err());
}

#[test]
fn only_sealed_objects_that_are_long_enough_are_mapped() {
    let short = create_sealed("short", 4096).unwrap();
    assert!(matches!(InflightTable::map(PLAN, short), Err(TableError::Seal(_))));
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(matches!(InflightTable::map(PLAN, file.into()), Err(TableError::Seal(_))));
}

#[test]
fn a_table_knows_itself_by_another_descriptor() {
    let table = table();
    let same = table.as_fd().try_clone_to_owned().unwrap();
    assert!(table.is(same.as_fd()).unwrap());
    let other = create_sealed("inflight", table_size(2, 128)).unwrap();
    assert!(!table.is(other.as_fd()).unwrap());
}

#[test]
fn regions_of_two_queues_do_not_touch() {
    let table = table();
    let (mut first, _) = SplitRecord::open(&table, 0, 128, 0).unwrap();
    let (mut second, _) = SplitRecord::open(&table, 1, 128, 0).unwrap();
    first.take(127);
    second.take(0);
    let (_, recovery) = SplitRecord::open(&table, 0, 128, 0).unwrap();
    assert_eq!(recovery.unwrap().heads, [127]);
    let (_, recovery) = SplitRecord::open(&table, 1, 128, 0).unwrap();
    assert_eq!(recovery.unwrap().heads, [0]);
    assert!(SplitRecord::open(&table, 2, 128, 0).is_err());
}
