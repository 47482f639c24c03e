//! A disk and what stands in front of it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_protocol::filters::{FaultOn, Limit, Limits};

use super::*;
use crate::bitmap::Bitmap;
use crate::job::rig::{Hands, RUBBISH, Rig, SECTOR, SIZE, read};
use crate::memory::{Heap, Memory};
use crate::node::{Fault, Faults, Throttle, What};
use crate::storage::memory::MemoryFile;
use crate::task::{Tasks, finish};

fn null(nodes: Vec<Node>) -> (Rc<Disk<MemoryFile>>, Rc<Hands>) {
    let clock = Rc::new(Hands::default());
    let disk = Disk::new(Layer::Null(SIZE), Rc::clone(&clock) as Rc<dyn Clock>);
    disk.set_nodes(nodes.into_iter().map(Rc::new).collect());
    (Rc::new(disk), clock)
}

fn write(at: u64, len: u64) -> Operation {
    let from = Heap::copy_of(&vec![RUBBISH; len as usize]).into();
    Operation::Write { at, from, durability: Durability::Visible }
}

fn perform(disk: &Rc<Disk<MemoryFile>>, operation: &Operation) -> Outcome {
    finish(disk.perform(operation, &AtomicBool::new(false)))
}

#[test]
fn a_drain_waits_for_what_is_under_way_and_holds_what_comes() {
    let mut rig = Rig::usual(1, 1);
    rig.guest(4, 40);
    for round in 0..50 {
        let (disk, seen) = (Rc::clone(&rig.disk), Rc::new(Cell::new(false)));
        let told = Rc::clone(&seen);
        rig.tasks.spawn(async move {
            let drained = disk.drain().await;
            assert_eq!(disk.under_way(), 0);
            for _ in 0..round {
                crate::task::yield_now().await;
                assert_eq!(disk.under_way(), 0);
            }
            told.set(true);
            drop(drained);
        });
        while !seen.get() {
            assert!(rig.step());
        }
    }
    rig.run();
    rig.verify("drained often");
}

#[test]
fn nobody_watches_before_the_last_lease_is_back() {
    let (disk, _) = null(Vec::new());
    disk.bypass().lent();
    disk.bypass().lent();
    let bitmap = Rc::new(Bitmap::new(SIZE, 4096));
    let (given, attached) = (Rc::clone(&disk), Rc::new(Cell::new(false)));
    let (told, watched) = (Rc::clone(&attached), Rc::clone(&bitmap));
    let mut tasks = Tasks::default();
    tasks.spawn(async move {
        let watcher = given.attach(Watcher::Bitmap(watched)).await;
        told.set(true);
        crate::task::yield_now().await;
        assert_eq!(perform(&given, &write(8192, 512)), Ok(()));
        drop(watcher);
    });
    assert!(!disk.may_lend() && !attached.get());
    disk.bypass().returned();
    tasks.run();
    assert!(!attached.get(), "one is out still");
    disk.bypass().returned();
    tasks.run();
    assert!(attached.get() && disk.may_lend());
    assert_eq!(bitmap.next_dirty(0, u64::MAX), Some(8192..12_288));
}

#[test]
fn what_is_read_from_below_is_the_tops_own_afterwards() {
    for seed in 0..12 {
        let mut rig = Rig::usual(2, seed);
        rig.disk.set_nodes(vec![Rc::new(Node::CopyOnRead)]);
        rig.guest(4, 40);
        rig.run();
        let heap = Heap::zeroes(SIZE as usize);
        let all = Operation::Read { at: 0, into: Memory::from(heap) };
        assert_eq!(perform(&rig.disk, &all), Ok(()));
        let top = rig.disk.top();
        let before = read(&top);
        top.set_backing(None);
        assert!(read(&top) == before, "{seed}: something is below still");
    }
}

#[test]
fn throttled_requests_pass_at_their_rate_and_no_drain_waits_for_them() {
    let limit = Limit { average: 100, ..Limit::default() };
    let group = Rc::new(Throttle::new(Limits { requests: limit, ..Limits::default() }));
    let (one, clock) = null(vec![Node::Throttle(Rc::clone(&group))]);
    let other = Rc::new(Disk::new(Layer::Null(SIZE), Rc::clone(&clock) as Rc<dyn Clock>));
    other.set_nodes(vec![Rc::new(Node::Throttle(group))]);
    let mut tasks = Tasks::default();
    for number in 0..300 {
        let disk = Rc::clone(if number % 2 == 0 { &one } else { &other });
        tasks.spawn(async move {
            let done = disk.perform(&write(number * SECTOR, SECTOR), &AtomicBool::new(false)).await;
            assert_eq!(done, Ok(()));
        });
    }
    finish(async { drop(one.drain().await) });
    while tasks.running() > 0 {
        tasks.run();
        clock.advance();
    }
    // Ten pass at once.
    let took = clock.now();
    assert!((Duration::from_millis(2880)..Duration::from_millis(2920)).contains(&took), "{took:?}");
}

#[test]
fn a_dead_requester_waits_for_no_turn() {
    let limit = Limit { average: 1, ..Limit::default() };
    let (disk, clock) = null(vec![Node::Throttle(Rc::new(Throttle::new(Limits {
        requests: limit,
        ..Limits::default()
    })))]);
    let revoked = Rc::new(AtomicBool::new(false));
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = Tasks::default();
    for _ in 0..20 {
        let given = (Rc::clone(&disk), Rc::clone(&revoked), Rc::clone(&outcomes));
        tasks.spawn(async move {
            let (disk, revoked, outcomes) = given;
            let done = disk.perform(&write(0, SECTOR), &revoked).await;
            outcomes.borrow_mut().push(done);
        });
    }
    revoked.store(true, Ordering::Release);
    clock.wake_all();
    tasks.run();
    assert_eq!(outcomes.borrow().len(), 20);
    assert_eq!(clock.now(), Duration::ZERO);
    assert_eq!(outcomes.borrow().last(), Some(&Err(Failure::DISCARDED)));
}

#[test]
fn a_fault_strikes_the_calls_it_names_and_no_others() {
    let fault = |on, range, after, times, failure| Fault {
        on,
        range,
        after,
        times,
        what: What::Fail(failure),
    };
    let (disk, clock) = null(vec![Node::Faults(Faults::new(vec![
        fault(FaultOn::Write, None, 2, Some(1), Failure::IO),
        fault(FaultOn::Any, Some(4096..8192), 0, None, Failure::INVALID),
        Fault {
            on: FaultOn::Flush,
            range: None,
            after: 0,
            times: Some(1),
            what: What::Wait(Duration::from_secs(3)),
        },
    ]))]);
    let policy = Policy { reads: OnError::Report, writes: OnError::Report };
    disk.set_policy(policy);
    let outcomes: Vec<Outcome> = (0..4).map(|_| perform(&disk, &write(0, SECTOR))).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(Failure::IO), Ok(())]);
    assert_eq!(perform(&disk, &write(7680, 1024)), Err(Failure::INVALID));
    assert_eq!(perform(&disk, &write(8192, 1024)), Ok(()));
    let mut tasks = Tasks::default();
    let flushing = Rc::clone(&disk);
    tasks.spawn(async move {
        assert_eq!(flushing.perform(&Operation::Flush, &AtomicBool::new(false)).await, Ok(()));
    });
    assert_eq!(tasks.running(), 1);
    clock.advance();
    tasks.run();
    assert_eq!((tasks.running(), clock.now()), (0, Duration::from_secs(3)));
}

#[test]
fn a_disk_that_is_verified_keeps_its_reference_the_same_and_fails_what_differs() {
    for seed in 0..8 {
        let mut rig = Rig::usual(2, seed);
        let file = MemoryFile::with(read(&rig.disk.top()));
        let reference = Layer::raw(file.clone(), SIZE);
        rig.disk.set_reference(Reference::new(reference));
        assert!(!rig.disk.may_lend());
        rig.guest(4, 60);
        rig.run();
        rig.verify("verified");
        assert!(read(&rig.disk.top()) == file.bytes(), "{seed}: they have parted");
        assert!(rig.disk.events().is_empty());
        // Behind the disk's back.
        let spoilt = Memory::from(Heap::copy_of(&[file.bytes()[3 * 512 + 7] ^ 1]));
        finish(file.write(3 * 512 + 7, spoilt)).unwrap();
        let ask = |at| {
            let heap = Heap::zeroes(1024);
            perform(&rig.disk, &Operation::Read { at, into: heap.into() })
        };
        assert_eq!(ask(2 * 512), Err(Failure::IO), "{seed}");
        assert!(rig.disk.events().contains(&DiskEvent::Differs { at: 3 * 512 }), "{seed}");
        assert_eq!(ask(4 * 512), Ok(()), "{seed}");
        // What is written anew is the same again.
        assert_eq!(perform(&rig.disk, &write(2 * 512, 1024)), Ok(()));
        assert_eq!(ask(2 * 512), Ok(()), "{seed}");
    }
}
