//! Failures: of what a job reads and writes, and of the guest's own requests.

use std::cell::Cell;
use std::rc::Rc;

use super::rig::*;
use crate::disk::{Action, DiskEvent, OnError, Policy};
use crate::job::*;
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::memory::{Call, MemoryFile};

fn mirror(rig: &Rig, target: &Layer<MemoryFile>) -> Job<MemoryFile> {
    Job::Mirror(Mirror {
        disk: Rc::clone(&rig.disk),
        target: target.clone(),
        sync: Sync::Full,
        mode: CopyMode::Background,
        granularity: None,
        target_is_zero: true,
    })
}

fn backup(rig: &Rig, target: &Layer<MemoryFile>) -> Job<MemoryFile> {
    let (disk, target) = (Rc::clone(&rig.disk), target.clone());
    Job::Backup(Backup { disk, target, extent: Extent::Full })
}

fn failed(control: &Control) -> Vec<(Side, Failure, Action)> {
    let events = control.events().into_iter();
    let failed = events.filter_map(|event| match event {
        JobEvent::Failed { side, failure, action } => Some((side, failure, action)),
        JobEvent::State(_) => None,
    });
    failed.collect()
}

/// Each call on the target fails once, at every place.
#[test]
fn a_full_target_makes_a_job_wait_and_go_on_by_itself() {
    for (number, make) in [mirror, backup].into_iter().enumerate() {
        for calls in 0..10 {
            let mut rig = Rig::usual(1, calls);
            let link = match calls % 2 {
                0 => raw(vec![0; SIZE as usize]),
                _ => qcow2(65536, false, SIZE),
            };
            let target = open(&link, None);
            rig.supervisor.registry.add(&target, link.clone());
            let then = read(&rig.disk.top());
            let job = make(&rig, &target);
            link.file.fail_after(calls, Failure::NO_SPACE);
            let control = rig.job(job, Settings::default());
            rig.guest(2, 10);
            for _ in 0..3000 {
                rig.step();
            }
            let waited = control.status().waits_after;
            if waited.is_none() && calls > 3 {
                // It needs fewer calls than that.
                link.file.heal();
                continue;
            }
            assert_eq!(waited, Some(Failure::NO_SPACE), "job {number} after {calls}");
            assert_eq!(failed(&control)[0].2, Action::WaitForSpace);
            link.file.heal();
            rig.complete(&control);
            assert_eq!(ended(&control), Ok(()), "job {number} after {calls}");
            if number == 1 {
                assert!(read(&target) == then, "backup after {calls}");
            }
            rig.verify("a target that was full");
        }
    }
}

#[test]
fn a_broken_target_fails_the_job_and_not_the_disk() {
    for (number, make) in [mirror, backup].into_iter().enumerate() {
        for calls in 0..10 {
            let mut rig = Rig::usual(1, calls);
            let link = qcow2(65536, false, SIZE);
            let target = open(&link, None);
            rig.supervisor.registry.add(&target, link.clone());
            let before = rig.disk.top();
            let job = make(&rig, &target);
            link.file.fail_after(calls, Failure::IO);
            let control = rig.job(job, Settings::default());
            rig.guest(3, 30);
            while !matches!(control.status().state, JobState::Ready | JobState::Concluded) {
                assert!(rig.step());
            }
            if control.status().state == JobState::Ready {
                // It needed fewer calls to be ready, and breaks when it is to complete.
                control.complete();
            }
            rig.run();
            assert_eq!(ended(&control), Err(Ended::Failed(Failure::IO)), "{number}, {calls}");
            assert!(rig.disk.top().is(&before));
            rig.verify("a broken target");
        }
    }
}

#[test]
fn a_broken_target_that_is_to_stop_the_job_stops_it_until_it_is_resumed() {
    let mut rig = Rig::usual(1, 7);
    let link = raw(vec![0; SIZE as usize]);
    let target = open(&link, None);
    rig.supervisor.registry.add(&target, link.clone());
    let job = mirror(&rig, &target);
    link.file.fail_after(0, Failure::IO);
    let settings = Settings { on_target_error: OnError::Stop, ..Settings::default() };
    let control = rig.job(job, settings);
    for _ in 0..5000 {
        rig.step();
    }
    assert_eq!(control.status().state, JobState::Paused);
    link.file.heal();
    control.resume();
    rig.complete(&control);
    assert_eq!(ended(&control), Ok(()));
    rig.verify("stopped and resumed");
}

/// As in QEMU: a copy that lacks something is none.
#[test]
fn what_is_to_be_ignored_is_tried_again_and_nothing_is_left_out() {
    for (number, make) in [mirror, backup].into_iter().enumerate() {
        for calls in 0..3 {
            let mut rig = Rig::usual(1, calls);
            let link = raw(vec![0; SIZE as usize]);
            let target = open(&link, None);
            rig.supervisor.registry.add(&target, link.clone());
            let then = read(&rig.disk.top());
            let job = make(&rig, &target);
            link.file.fail_after(calls, Failure::IO);
            let settings = Settings { on_target_error: OnError::Ignore, ..Settings::default() };
            let control = rig.job(job, settings);
            for _ in 0..2000 {
                rig.step();
            }
            assert_ne!(control.status().state, JobState::Concluded, "{number}, {calls}");
            assert!(failed(&control).iter().all(|failed| failed.2 == Action::Ignore));
            link.file.heal();
            rig.complete(&control);
            assert_eq!(ended(&control), Ok(()), "{number}, {calls}");
            if number == 1 {
                assert!(read(&target) == then, "backup after {calls}");
            }
            rig.verify("a target whose failures were ignored");
        }
    }
}

/// As in QEMU: it goes on behind what cannot be read, fails in the end, and what is below stays there.
#[test]
fn a_stream_that_ignores_failures_pulls_the_rest_and_changes_no_chain() {
    let mut rig = Rig::usual(1, 2);
    let links = rig.supervisor.record.0.borrow().clone();
    let (disk, into) = (Rc::clone(&rig.disk), rig.disk.top());
    let job = Job::Stream(Stream { disk, into, base: None, name: None });
    links[1].file.fail_once(Call::Read, 1, Failure::IO);
    let settings = Settings { on_source_error: OnError::Ignore, ..Settings::default() };
    let control = rig.job(job, settings);
    rig.run();
    assert_eq!(ended(&control), Err(Ended::Failed(Failure::IO)));
    assert_eq!(failed(&control), [(Side::Source, Failure::IO, Action::Ignore)]);
    assert_eq!(control.status().offset, SIZE);
    assert_eq!(rig.disk.top().chain().count(), 2);
    rig.verify("a stream with a hole");
}

/// The guest's own writes find no space: they wait, and are answered when there is some.
#[test]
fn a_full_host_makes_requests_wait_and_nobody_is_told_an_error() {
    for seed in 0..8 {
        let mut rig = Rig::usual(1, seed);
        let link = rig.supervisor.record.0.borrow()[0].clone();
        rig.guest(3, 30);
        link.file.fail_after(seed * 5, Failure::NO_SPACE);
        for _ in 0..2000 {
            rig.step();
        }
        assert!(rig.disk.stopped() > 0);
        let events = rig.disk.events();
        let told = |event: &&DiskEvent| {
            matches!(
                event,
                DiskEvent::Failed { failure: Failure::NO_SPACE, action: Action::WaitForSpace, .. }
            )
        };
        let stopped = rig.disk.stopped() as usize;
        assert_eq!(events.iter().filter(told).count(), stopped, "told once for each: {events:?}");
        // A change of the chain need not wait for them.
        let (disk, drained) = (Rc::clone(&rig.disk), Rc::new(Cell::new(false)));
        let told = Rc::clone(&drained);
        rig.tasks.spawn(async move {
            drop(disk.drain().await);
            told.set(true);
        });
        for _ in 0..2000 {
            rig.step();
        }
        assert!(drained.get());
        link.file.heal();
        rig.run();
        assert_eq!(rig.disk.events().last(), Some(&DiskEvent::Resumed));
        rig.verify("a full host");
    }
}

#[test]
fn each_policy_does_what_it_says() {
    use crate::disk::Operation;
    use crate::memory::Heap;
    use crate::request::Durability;
    use std::sync::atomic::AtomicBool;
    let policies = [
        (OnError::Report, Err(Failure::IO)),
        (OnError::Ignore, Ok(())),
        (OnError::Enospc, Err(Failure::IO)),
    ];
    for (policy, expected) in policies {
        let rig = Rig::usual(1, 1);
        let link = rig.supervisor.record.0.borrow()[0].clone();
        rig.disk.set_policy(Policy { reads: policy, writes: policy });
        link.file.fail_after(0, Failure::IO);
        let from = Heap::copy_of(&[7; 512]).into();
        let write = Operation::Write { at: 0, from, durability: Durability::Visible };
        let done = crate::task::finish(rig.disk.perform(&write, &AtomicBool::new(false)));
        assert_eq!(done, expected, "{policy:?}");
    }
}
