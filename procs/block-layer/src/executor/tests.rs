//! The whole block layer in one process: rings and real files on either side.

mod going_back;
mod jobs;
mod mapped;
mod rig;

use bulkhead_protocol::block_control::ErrorPolicy;
use bulkhead_protocol::block_ring::{
    BlockRequest, FLAG_FUA, Operation, STATUS_HOLE, STATUS_ZERO, StatusExtent,
};
use bulkhead_protocol::spec::CacheMode;

use super::*;
use crate::outcome::Failure;
use rig::{Disk, PAGE, Rig, SIZE, disks, stamp};
use zerocopy::FromBytes;

const WRITE: u8 = Operation::Write.code();
const READ: u8 = Operation::Read.code();

fn at(tag: u64, operation: u8, offset: u64, span: u32, len: u32) -> BlockRequest {
    BlockRequest { tag, offset, span, len, operation, flags: 0, reserved: [0; 6] }
}

fn page(tag: u64, operation: u8, number: u64) -> BlockRequest {
    let span = (tag % 64) as u32 * PAGE as u32;
    at(tag, operation, number * PAGE, span, PAGE as u32)
}

#[test]
fn what_is_written_is_read_back_on_every_kind_of_file() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 1);
        rig.fill(0, 0, &stamp(7));
        assert_eq!(rig.call(0, page(0, WRITE, 3)), 0, "{disk:?}");
        rig.fill(0, 0, &stamp(0));
        assert_eq!(rig.call(0, page(0, READ, 3)), 0, "{disk:?}");
        assert_eq!(rig.bytes(0, 0), stamp(7), "{disk:?}");
        assert_eq!(disk.content(3), stamp(7), "{disk:?}");
    }
}

#[test]
fn status_tells_what_was_written_and_what_was_not() {
    let mut rig = Rig::new(&Disk::memory(), 1);
    assert_eq!(rig.call(0, page(0, WRITE, 3)), 0);
    let status = Operation::Status.code();
    assert_eq!(rig.call(0, at(1, status, PAGE, 8 * PAGE as u32, 8 * PAGE as u32)), 0);
    let told = rig.bytes(0, 8 * PAGE as u32);
    let (extents, _) = <[StatusExtent]>::ref_from_prefix_with_elems(&told, 4).unwrap();
    let hole =
        |pages| StatusExtent { len: pages * PAGE, depth: 1, flags: STATUS_HOLE | STATUS_ZERO };
    let data = StatusExtent { len: PAGE, depth: 1, flags: 0 };
    assert_eq!(extents, [hole(2), data, hole(5), StatusExtent::default()]);
    assert_ne!(rig.call(0, at(1, status, SIZE, 0, PAGE as u32)), 0);
}

#[test]
fn two_deep_queues_mix_reads_and_writes_without_mixing_data() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 2);
        for round in 0..8 {
            for (queue, tag) in (0..32).flat_map(|tag| [(0, tag), (1, tag)]) {
                let number = tag * 2 + queue as u64;
                rig.fill(queue, tag as u32 * PAGE as u32, &stamp((round * 64 + number) as u8));
                rig.submit(queue, page(tag, WRITE, number));
            }
            rig.expect(0, 32);
            rig.expect(1, 32);
            for (queue, tag) in (0..32).flat_map(|tag| [(0, tag), (1, tag)]) {
                rig.submit(queue, page(tag, READ, 63 - (tag * 2 + queue as u64)));
            }
            rig.expect(0, 32);
            rig.expect(1, 32);
            for (queue, tag) in (0..32).flat_map(|tag| [(0, tag), (1, tag)]) {
                let number = 63 - (tag * 2 + queue as u64);
                let expected = stamp((round * 64 + number) as u8);
                assert_eq!(rig.bytes(queue, tag as u32 * PAGE as u32), expected, "{disk:?}");
            }
        }
    }
}

#[test]
fn a_megabyte_in_one_request_and_flush_and_fua() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 1);
        let durable = BlockRequest { flags: FLAG_FUA, ..at(1, WRITE, 0, 0, 1 << 20) };
        rig.fill(0, (1 << 20) - PAGE as u32, &stamp(9));
        assert_eq!(rig.call(0, durable), 0);
        assert_eq!(rig.call(0, at(2, Operation::Flush.code(), 0, 0, 0)), 0);
        assert_eq!(disk.content(255), stamp(9));
    }
}

#[test]
fn zeroed_and_discarded_ranges_are_zero_and_their_neighbours_stay() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 1);
        for operation in [Operation::WriteZeroes, Operation::WriteZeroesUnmap, Operation::Discard] {
            rig.fill(0, 0, &stamp(5));
            for number in 0..4 {
                assert_eq!(rig.call(0, at(number, WRITE, number * PAGE, 0, PAGE as u32)), 0);
            }
            let range = at(9, operation.code(), PAGE, 0, 2 * PAGE as u32);
            assert_eq!(rig.call(0, range), 0, "{disk:?} {operation:?}");
            let zero = vec![0; PAGE as usize];
            let expected = [stamp(5), zero.clone(), zero, stamp(5)];
            for (number, expected) in expected.iter().enumerate() {
                assert_eq!(
                    disk.content(number as u64),
                    *expected,
                    "{disk:?} {operation:?} {number}"
                );
            }
        }
    }
}

#[test]
fn a_wrong_request_gets_an_error_and_its_neighbour_is_served() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 1);
    rig.submit(0, at(1, READ, SIZE, 0, PAGE as u32));
    rig.submit(0, at(2, 77, 0, 0, PAGE as u32));
    rig.submit(0, page(3, READ, 0));
    let mut ended = rig.take(0, 3);
    ended.sort_unstable();
    let invalid = Failure::INVALID.errno();
    assert_eq!(ended, [(1, invalid), (2, invalid), (3, 0)]);
}

#[test]
fn a_read_only_export_refuses_to_write_and_reads() {
    let disk = Disk::memory();
    let mut rig = Rig::with(&disk, 1, |plan| plan.exports[0].read_only = true);
    assert_eq!(rig.call(0, page(1, WRITE, 0)), Failure::READ_ONLY.errno());
    assert_eq!(rig.call(0, page(1, READ, 0)), 0);
}

#[test]
fn a_file_that_somebody_cut_gives_errors_and_no_zeroes() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 1);
        disk.cut(8 * PAGE);
        assert_eq!(rig.call(0, page(1, READ, 9)), Failure::IO.errno(), "{disk:?}");
        assert_eq!(rig.call(0, page(1, READ, 7)), 0, "{disk:?}");
    }
}

#[test]
fn what_a_lane_fails_at_is_told_and_the_policy_holds() {
    for disk in disks() {
        let policies = [(ErrorPolicy::Report, Failure::IO.errno()), (ErrorPolicy::Ignore, 0)];
        for (read, answer) in policies {
            let mut rig = Rig::with(&disk, 1, |plan| plan.on_error.read = read);
            disk.cut(8 * PAGE);
            assert_eq!(rig.call(0, page(1, READ, 9)), answer, "{disk:?} {read:?}");
            let told = rig.next_event();
            assert!(
                matches!(told, BlockEvent::Trouble { job: None, paused: false, .. }),
                "{told:?}"
            );
            assert_eq!(rig.call(0, page(1, READ, 7)), 0, "{disk:?} {read:?}");
            disk.cut(SIZE);
        }
    }
}

#[test]
fn unsafe_caching_answers_a_flush_at_once_and_serves_all_the_same() {
    let disk = Disk::file(CacheMode::Unsafe);
    let mut rig = Rig::new(&disk, 1);
    assert_eq!(rig.call(0, page(1, WRITE, 0)), 0);
    assert_eq!(rig.call(0, at(2, Operation::Flush.code(), 0, 0, 0)), 0);
}

#[test]
fn a_lane_without_a_lease_is_served_through_the_graph() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 1);
        rig.executor.lanes[0].post(ToLane::Lease(None));
        rig.fill(0, 0, &stamp(3));
        for tag in 0..32 {
            rig.submit(0, at(tag, WRITE, tag * PAGE, 0, PAGE as u32));
        }
        rig.expect(0, 32);
        assert_eq!(disk.content(31), stamp(3), "{disk:?}");
    }
}

#[test]
fn a_revoked_lease_is_returned_after_the_last_request_under_it() {
    let disk = Disk::file(CacheMode::None);
    let mut rig = Rig::new(&disk, 1);
    let lease = rig.executor.graph.as_ref().and_then(Graph::lease);
    for round in 0..20 {
        for tag in 0..16 {
            rig.submit(0, page(tag, WRITE, tag + round));
        }
        rig.executor.lanes[0].post(ToLane::Lease(None));
        rig.expect(0, 16);
        rig.executor.lanes[0].post(ToLane::Lease(lease.clone()));
        assert_eq!(rig.call(0, page(40, READ, 0)), 0);
    }
}

#[test]
fn delayed_requests_keep_their_order() {
    let disk = Disk::memory();
    let mut rig = Rig::with(&disk, 1, |plan| plan.filters.delay_ms = 5);
    for tag in 0..100 {
        rig.submit(0, page(tag, READ, 0));
    }
    let order: Vec<u64> = rig.take(0, 100).iter().map(|(tag, _)| *tag).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

#[test]
fn nothing_of_a_detached_incarnation_touches_the_image() {
    let disk = Disk::memory();
    let mut rig = Rig::with(&disk, 2, |plan| plan.filters.delay_ms = 3_600_000);
    rig.fill(0, 0, &stamp(1));
    rig.fill(1, 0, &stamp(1));
    for tag in 0..50 {
        rig.submit(0, at(tag, WRITE, tag * PAGE, 0, PAGE as u32));
        rig.submit(1, at(tag, WRITE, tag * PAGE, 0, PAGE as u32));
    }
    rig.settle();
    rig.detach();
    assert_eq!(rig.next_event(), BlockEvent::Detached { export: 0 });
    assert_eq!(disk.content(0), vec![0; PAGE as usize]);
    assert_eq!(rig.executor.next_due(), None);
}

#[test]
fn rings_come_and_go_under_load_and_each_incarnation_is_served() {
    for disk in disks() {
        let mut rig = Rig::new(&disk, 2);
        for _ in 0..25 {
            for tag in 0..64 {
                rig.submit(0, page(tag, WRITE, tag));
                rig.submit(1, page(tag, READ, tag));
            }
            rig.detach();
            assert_eq!(rig.next_event(), BlockEvent::Detached { export: 0 }, "{disk:?}");
            rig.attach();
            assert_eq!(rig.call(0, page(1, READ, 0)), 0, "{disk:?}");
            assert_eq!(rig.call(1, page(1, READ, 0)), 0, "{disk:?}");
        }
    }
}

#[test]
fn detaching_what_is_detached_is_answered() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 1);
    for _ in 0..2 {
        rig.detach();
        assert_eq!(rig.next_event(), BlockEvent::Detached { export: 0 });
    }
}

#[test]
fn an_impossible_index_costs_that_export_its_rings_and_no_other() {
    let disk = Disk::memory();
    let mut rig = Rig::with_exports(&disk, &[2, 1]);
    rig.forge_index(0);
    let BlockEvent::ExportFault { export: 0, reason } = rig.next_event() else {
        panic!("the fault was not reported");
    };
    assert!(reason.contains("Tail"), "{reason}");
    assert_eq!(rig.call(2, page(1, READ, 0)), 0);
    rig.attach();
    assert_eq!(rig.call(0, page(1, READ, 0)), 0);
    assert_eq!(rig.call(1, page(1, READ, 0)), 0);
}

#[test]
fn a_fault_is_over_at_once_although_requests_of_it_still_wait() {
    let disk = Disk::memory();
    let mut rig = Rig::with(&disk, 1, |plan| plan.filters.delay_ms = 3_600_000);
    for tag in 0..50 {
        rig.submit(0, page(tag, WRITE, tag));
    }
    rig.settle();
    rig.forge_index(0);
    assert!(matches!(rig.next_event(), BlockEvent::ExportFault { export: 0, .. }));
    assert_eq!(rig.executor.next_due(), None);
}

#[test]
fn a_fault_and_a_detach_that_cross_are_both_answered() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 2);
    rig.forge_index(0);
    rig.detach();
    let first = rig.next_event();
    if matches!(first, BlockEvent::ExportFault { .. }) {
        assert_eq!(rig.next_event(), BlockEvent::Detached { export: 0 });
    } else {
        assert_eq!(first, BlockEvent::Detached { export: 0 });
    }
}

#[test]
fn a_peer_that_never_takes_its_completions_is_dropped() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 1);
    for tag in 0.. {
        if !rig.try_submit(0, page(tag, READ, 0)) {
            match rig.poll_event() {
                None => continue,
                Some(event) => {
                    assert!(matches!(event, BlockEvent::ExportFault { export: 0, .. }));
                    break;
                }
            }
        }
    }
}

#[test]
fn a_heartbeat_is_answered_by_every_lane_and_shows_progress() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 2);
    let before = rig.heartbeat(1);
    assert!(!rig.executor.progressed(), "nothing was asked for yet");
    assert_eq!(rig.call(1, page(1, READ, 0)), 0);
    let after = rig.heartbeat(2);
    assert!(rig.executor.progressed() && !rig.executor.progressed(), "told once");
    assert_eq!((before.number, after.number), (1, 2));
    assert!(after.progress > before.progress);
}

#[test]
fn half_a_sector_is_refused_in_one_sentence() {
    let disk = Disk::memory();
    disk.cut(1000);
    let mut executor = Executor::start(1, 1, Vec::new()).unwrap();
    let (plan, fds, _) = rig::plan(&disk, &[1]);
    executor.command(BlockCommand::Plan(Box::new(plan)), fds).unwrap();
    let events: Vec<_> = executor.events().collect();
    let [BlockEvent::Refused { reason }] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(reason.contains("1000 bytes"), "{reason}");
}

#[test]
fn commands_that_do_not_fit_blame_the_supervisor() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 1);
    let attach = BlockCommand::Attach { export: 0, queues: 1, incarnation: 9 };
    assert!(rig.executor.command(attach, Vec::new()).is_err(), "it has rings");
    let unknown = BlockCommand::Detach { export: 5 };
    assert!(rig.executor.command(unknown, Vec::new()).is_err());
    let (plan, fds, _) = rig::plan(&disk, &[1]);
    let second = BlockCommand::Plan(Box::new(plan));
    assert!(rig.executor.command(second, fds).is_err());
}
