//! Resets, and backends that cannot go on.

use super::*;

#[test]
fn a_reset_is_complete_only_when_the_backend_has_let_go() {
    let board = Board::new();
    board.probe();
    board.disk.take_demand();
    board.write::<1>(STATUS, 0);
    assert_eq!(board.disk.take_demand(), Some(Demand::Stop));
    assert_eq!((board.rung(), board.status()), (2, 15));
    assert!(board.disk.is_live());
    board.disk.stopped();
    assert_eq!(board.status(), 0);
    assert!(!board.disk.is_live());
    board.probe();
    assert!(matches!(board.disk.take_demand(), Some(Demand::Run(_))));
}

#[test]
fn during_a_reset_nothing_can_be_changed() {
    let board = Board::new();
    board.probe();
    board.write::<1>(STATUS, 0);
    board.write::<1>(STATUS, 15);
    board.write::<2>(0x16, 0);
    board.write::<2>(0x1a, 1);
    assert_eq!((board.read::<2>(0x16), board.read::<2>(0x1a)), (1, 0xffff));
    board.disk.stopped();
    assert_eq!((board.status(), board.read::<2>(0x16)), (0, 0));
}

#[test]
fn a_reset_overtakes_a_start_that_nobody_saw() {
    let board = Board::new();
    board.probe();
    board.write::<1>(STATUS, 0);
    assert_eq!(board.disk.take_demand(), Some(Demand::Stop));
}

#[test]
fn a_reset_before_driver_ok_is_immediate_and_no_ones_business() {
    let board = Board::new();
    board.acknowledge(OFFERED);
    board.enable(0);
    board.write::<1>(STATUS, 0);
    assert_eq!((board.status(), board.rung()), (0, 0));
    assert_eq!(board.disk.take_demand(), None);
    assert_eq!(board.read::<2>(0x1c), 0, "the queue is off again");
}

#[test]
fn a_reset_disconnects_the_interrupts_of_the_queues() {
    let board = Board::new();
    board.probe();
    board.arm(1);
    board.write::<2>(0x1a, 1);
    assert_eq!(board.vm.record().irqfds.len(), 1);
    board.write::<1>(STATUS, 0);
    board.disk.stopped();
    assert!(board.vm.record().irqfds.is_empty());
}

#[test]
fn a_machine_reset_stops_a_live_device_and_forgets_an_idle_one() {
    let board = Board::new();
    board.acknowledge(OFFERED);
    board.host.reset();
    board.decode();
    assert_eq!((board.status(), board.rung()), (0, 0));
    board.probe();
    board.disk.take_demand();
    board.host.reset();
    assert_eq!(board.disk.take_demand(), Some(Demand::Stop));
    assert!(board.disk.is_live());
    board.disk.stopped();
    board.decode();
    assert_eq!(board.status(), 0);
}

#[test]
fn needs_reset_is_seen_in_the_status_and_told_by_one_interrupt() {
    let board = Board::new();
    board.arm(0);
    board.probe();
    board.write::<2>(0x10, 0);
    assert!(board.disk.needs_reset());
    assert!(!board.disk.needs_reset());
    assert_eq!(board.status(), 0x4f);
    assert_eq!(board.vm.take_messages().len(), 1);
    board.write::<1>(STATUS, 0);
    board.disk.stopped();
    assert_eq!(board.status(), 0);
}

#[test]
fn a_stop_that_nobody_waits_for_changes_nothing() {
    let board = Board::new();
    board.probe();
    board.disk.stopped();
    assert_eq!(board.status(), 15);
}
