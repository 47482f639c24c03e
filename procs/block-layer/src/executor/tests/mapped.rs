//! Lanes that write clusters of a qcow2 image in place, and what takes their knowledge back.

use bulkhead_protocol::block::{BlockAnswer, BlockOrder};
use bulkhead_protocol::block_control::BitmapAction;

use super::*;
use crate::bitmap::Bitmap;
use crate::disk::Watcher;
use crate::qcow2::Layer;

const DISCARD: u8 = Operation::Discard.code();
const ZERO: u8 = Operation::WriteZeroesUnmap.code();
const FLUSH: u8 = Operation::Flush.code();

/// Bytes of a cluster.
const CLUSTER: u64 = 65536;

fn images() -> [Disk; 3] {
    let folder = env!("CARGO_MANIFEST_DIR");
    [
        Disk::qcow2(CacheMode::Writeback, "/dev/shm"),
        Disk::qcow2(CacheMode::Writeback, folder),
        Disk::qcow2(CacheMode::None, folder),
    ]
}

fn forwarded(rig: &Rig) -> u64 {
    rig.executor.graph.as_ref().map_or(0, Graph::forwarded)
}

pub(super) fn write(rig: &mut Rig, number: u64, byte: u8) {
    rig.fill(0, 0, &stamp(byte));
    assert_eq!(rig.call(0, page(0, WRITE, number)), 0);
}

pub(super) fn read(rig: &mut Rig, number: u64) -> Vec<u8> {
    rig.fill(0, 0, &stamp(0xAA));
    assert_eq!(rig.call(0, page(0, READ, number)), 0);
    rig.bytes(0, 0)
}

#[test]
fn clusters_that_were_served_once_are_served_by_the_lane() {
    for disk in images() {
        let mut rig = Rig::new(&disk, 1);
        for number in 0..64 {
            write(&mut rig, number, number as u8 + 1);
        }
        let before = forwarded(&rig);
        for number in 0..64 {
            write(&mut rig, number, number as u8 + 101);
            assert_eq!(read(&mut rig, number), stamp(number as u8 + 101), "{disk:?}");
        }
        assert_eq!(forwarded(&rig), before, "{disk:?}");
        // Across two clusters that lie side by side.
        let across = at(3, READ, CLUSTER - PAGE, 0, 2 * PAGE as u32);
        assert_eq!(rig.call(0, across), 0);
        assert_eq!((rig.bytes(0, 0), rig.bytes(0, PAGE as u32)), (stamp(116), stamp(117)));
        assert_eq!(forwarded(&rig), before, "{disk:?}");
    }
}

#[test]
fn what_is_discarded_or_zeroed_is_written_at_another_place() {
    for disk in images() {
        let mut rig = Rig::new(&disk, 1);
        for round in 1..20 {
            for cluster in 0..8 {
                write(&mut rig, cluster * 16, round);
                write(&mut rig, cluster * 16 + 3, round + 100);
            }
            let operation = if round % 2 == 0 { DISCARD } else { ZERO };
            for cluster in (0..8).step_by(2) {
                let gone = at(9, operation, cluster * CLUSTER, 0, CLUSTER as u32);
                assert_eq!(rig.call(0, gone), 0);
            }
            assert_eq!(rig.call(0, at(1, FLUSH, 0, 0, 0)), 0);
            for cluster in 0..8 {
                let gone = cluster % 2 == 0;
                let expected = if gone { 0 } else { round };
                assert_eq!(read(&mut rig, cluster * 16), stamp(expected), "{disk:?}, {round}");
                let expected = if gone { 0 } else { round + 100 };
                assert_eq!(read(&mut rig, cluster * 16 + 3), stamp(expected), "{disk:?}");
            }
        }
    }
}

#[test]
fn discards_and_writes_of_two_queues_keep_each_clusters_bytes() {
    let disk = Disk::qcow2(CacheMode::Writeback, "/dev/shm");
    let mut rig = Rig::new(&disk, 2);
    for round in 0..40u8 {
        // Queue 0 writes even clusters, queue 1 discards odd ones and writes them again.
        for cluster in 0..16 {
            rig.fill(0, cluster * PAGE as u32, &stamp(round + 1));
            rig.submit(
                0,
                at(
                    cluster.into(),
                    WRITE,
                    u64::from(cluster) * 2 * CLUSTER,
                    cluster * PAGE as u32,
                    PAGE as u32,
                ),
            );
            let odd = (u64::from(cluster) * 2 + 1) * CLUSTER;
            rig.submit(1, at(cluster.into(), DISCARD, odd, 0, CLUSTER as u32));
        }
        rig.expect(1, 16);
        for cluster in 0..16 {
            rig.fill(1, cluster * PAGE as u32, &stamp(round + 101));
            let odd = (u64::from(cluster) * 2 + 1) * CLUSTER;
            rig.submit(1, at(cluster.into(), WRITE, odd, cluster * PAGE as u32, PAGE as u32));
        }
        rig.expect(0, 16);
        rig.expect(1, 16);
        for cluster in 0..16 {
            assert_eq!(read(&mut rig, cluster * 32), stamp(round + 1), "{round}");
            assert_eq!(read(&mut rig, cluster * 32 + 16), stamp(round + 101), "{round}");
        }
    }
}

#[test]
fn whoever_watches_sees_every_write_of_lanes_that_had_leases() {
    for disk in [Disk::memory(), Disk::qcow2(CacheMode::Writeback, "/dev/shm")] {
        let mut rig = Rig::new(&disk, 2);
        for number in 0..64 {
            write(&mut rig, number, 1);
        }
        let bitmap = std::rc::Rc::new(Bitmap::new(SIZE, PAGE));
        let attached = std::rc::Rc::new(std::cell::RefCell::new(None));
        let (watched, told) = (std::rc::Rc::clone(&bitmap), std::rc::Rc::clone(&attached));
        if let Some(graph) = &mut rig.executor.graph {
            let disk = std::rc::Rc::clone(graph.disk());
            graph.spawn(async move {
                *told.borrow_mut() = Some(disk.attach(Watcher::Bitmap(watched)).await);
            });
        }
        // Under load until it watches.
        while attached.borrow().is_none() {
            write(&mut rig, 1, 2);
        }
        bitmap.clear_all();
        write(&mut rig, 7, 3);
        write(&mut rig, 9, 3);
        assert!(bitmap.is_dirty(7 * PAGE) && bitmap.is_dirty(9 * PAGE), "{disk:?}");
        assert_eq!(bitmap.dirty_bytes(), 2 * PAGE);
        drop(attached.take());
        rig.settle();
        let before = forwarded(&rig);
        // Once to learn the places again.
        write(&mut rig, 7, 4);
        rig.settle();
        for byte in 5..50 {
            write(&mut rig, 7, byte);
        }
        assert!(forwarded(&rig) - before <= 2, "{disk:?}");
    }
}

#[test]
fn a_bitmap_of_the_image_records_what_lanes_had_written_past_it() {
    let mut rig = Rig::new(&Disk::qcow2(CacheMode::Writeback, "/dev/shm"), 1);
    for _ in 0..8 {
        write(&mut rig, 7, 1);
    }
    assert!(rig.executor.graph.as_ref().and_then(Graph::lease).is_some());
    let add = BitmapAction::Add { granularity: 0, persistent: true, disabled: false };
    order_bitmap(&mut rig, 1, add);
    assert!(rig.executor.graph.as_ref().and_then(Graph::lease).is_none());
    for number in [7, 39] {
        write(&mut rig, number, 2);
        write(&mut rig, number, 3);
    }
    assert_eq!(dirty(&rig), 2 * CLUSTER);
    order_bitmap(&mut rig, 2, BitmapAction::Clear);
    write(&mut rig, 7, 4);
    assert_eq!(dirty(&rig), CLUSTER);
    order_bitmap(&mut rig, 3, BitmapAction::Disable);
    write(&mut rig, 39, 5);
    assert_eq!(dirty(&rig), CLUSTER);
    assert!(rig.executor.graph.as_ref().and_then(Graph::lease).is_some());
}

fn order_bitmap(rig: &mut Rig, call: u64, action: BitmapAction) {
    let order = BlockOrder::Bitmap { bitmap: "kept".into(), action };
    rig.order(call, order);
    assert_eq!(rig.answer(call), BlockAnswer::Done);
}

fn dirty(rig: &Rig) -> u64 {
    let Some(Layer::Qcow2(image)) = rig.executor.graph.as_ref().map(|graph| graph.disk().top())
    else {
        return 0;
    };
    image.bitmap("kept").map_or(0, |bitmap| bitmap.dirty_bytes())
}
