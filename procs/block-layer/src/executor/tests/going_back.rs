//! Back to an internal snapshot under lanes that know where clusters are, with a death on either side of the word.

use bulkhead_protocol::block::{BlockAnswer, BlockOrder, Unfinished};
use bulkhead_protocol::block_control::{BitmapAction, InternalAction};

use super::mapped::{read, write};
use super::*;

const FLUSH: u8 = Operation::Flush.code();

/// Pages that are written.
const PAGES: u64 = 64;

fn image() -> Disk {
    Disk::qcow2(CacheMode::Writeback, "/dev/shm")
}

fn snapshot(action: InternalAction) -> BlockOrder {
    BlockOrder::InternalSnapshot { snapshot: "monday".into(), action, time: 7 }
}

/// A disk of ones in the snapshot, and of twos now; lanes know where the twos are.
fn with_a_snapshot(disk: &Disk) -> Rig {
    let mut rig = Rig::new(disk, 1);
    (0..PAGES).for_each(|number| write(&mut rig, number, 1));
    rig.order(1, snapshot(InternalAction::Create));
    assert_eq!(rig.answer(1), BlockAnswer::Done);
    for _ in 0..2 {
        (0..PAGES).for_each(|number| write(&mut rig, number, 2));
    }
    rig
}

/// Waits until it has gone back, sees that nobody is served, and lets it.
fn give_the_word(rig: &mut Rig, call: u64) {
    let change = loop {
        if let BlockEvent::Switching { change, call: by, job, .. } = rig.next_event() {
            assert_eq!((by, job), (Some(call), None));
            break change;
        }
    };
    rig.submit(0, page(5, READ, 7));
    assert_eq!(rig.try_take(0), None, "somebody was served before it was written down");
    rig.executor.command(BlockCommand::Switched { change }, Vec::new()).unwrap();
    assert_eq!(rig.answer(call), BlockAnswer::Done);
    assert_eq!(rig.take(0, 1), [(5, 0)]);
}

#[test]
fn a_disk_that_goes_back_reads_as_it_did() {
    let disk = image();
    let mut rig = with_a_snapshot(&disk);
    rig.order(2, snapshot(InternalAction::Apply));
    give_the_word(&mut rig, 2);
    for number in 0..PAGES {
        assert_eq!(read(&mut rig, number), stamp(1), "{number}");
        write(&mut rig, number, 3);
        assert_eq!(read(&mut rig, number), stamp(3), "{number}");
    }
    rig.order(3, snapshot(InternalAction::Apply));
    give_the_word(&mut rig, 3);
    assert_eq!(read(&mut rig, 9), stamp(1), "what was written later is in the snapshot");
}

#[test]
fn a_successor_carries_out_what_its_predecessor_had_not_told_of() {
    for dies_after_it in [false, true] {
        let disk = image();
        let mut rig = with_a_snapshot(&disk);
        assert_eq!(rig.call(0, at(1, FLUSH, 0, 0, 0)), 0);
        if dies_after_it {
            rig.order(2, snapshot(InternalAction::Apply));
            while !matches!(rig.next_event(), BlockEvent::Switching { .. }) {}
        }
        drop(rig);
        let orders = vec![Unfinished { call: 2, snapshot: "monday".into() }];
        let mut rig = Rig::with(&disk, 1, |plan| plan.orders = orders);
        give_the_word(&mut rig, 2);
        (0..PAGES).for_each(|number| assert_eq!(read(&mut rig, number), stamp(1), "{number}"));
    }
}

#[test]
fn what_would_be_wrong_afterwards_forbids_it() {
    let disk = image();
    let mut rig = with_a_snapshot(&disk);
    let refused = |rig: &mut Rig, call, order, words: &str| {
        rig.order(call, order);
        let BlockAnswer::Refused(reason) = rig.answer(call) else {
            panic!("it was done in spite of {words}");
        };
        assert!(reason.contains(words), "{reason}");
    };
    let missing = |snapshot: &str| BlockOrder::InternalSnapshot {
        snapshot: snapshot.into(),
        action: InternalAction::Apply,
        time: 0,
    };
    refused(&mut rig, 2, missing("tuesday"), "no snapshot 'tuesday'");
    for (call, persistent) in [(10, false), (20, true)] {
        let bitmap = |action| BlockOrder::Bitmap { bitmap: "daily".into(), action };
        let add = BitmapAction::Add { granularity: 0, persistent, disabled: false };
        rig.order(call, bitmap(add));
        assert_eq!(rig.answer(call), BlockAnswer::Done);
        refused(&mut rig, call + 1, snapshot(InternalAction::Apply), "bitmap 'daily'");
        rig.order(call + 2, bitmap(BitmapAction::Remove));
        assert_eq!(rig.answer(call + 2), BlockAnswer::Done);
    }
    assert_eq!(read(&mut rig, 3), stamp(2));
    let mut raw = Rig::new(&Disk::memory(), 1);
    refused(&mut raw, 2, snapshot(InternalAction::Apply), "no qcow2 image");
}
