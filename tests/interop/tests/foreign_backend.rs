//! Core's whole device against other people's vhost-user-blk backends: a driver's register writes on one
//! side, the backend on the other, a virtqueue made by hand in between.

mod foreign_backend {
    pub mod board;
}

use std::os::unix::fs::FileExt;

use bulkhead_vhost_frontend::{Fault, Report};
use foreign_backend::board::{Board, Peer, SIZE};

fn reads_and_writes(peer: Peer) {
    let Some(mut board) = Board::new(peer) else { return };
    board.connect();
    assert!(matches!(board.advance_until_report(), Report::Up));
    assert_eq!(board.read::<8>(0x2000), SIZE / 512, "capacity");
    assert_eq!(board.read::<2>(0x2000 + 34), 1, "queues, as planned");
    board.probe();
    let data: Vec<u8> = (0..4096u32).map(|at| (at * 7) as u8).collect();
    board.image.write_all_at(&data, 8192).unwrap();
    assert_eq!(board.read_disk(16)[..], data);
    let other: Vec<u8> = data.iter().map(|byte| !byte).collect();
    board.write_disk(24, &other);
    let mut there = vec![0; 4096];
    board.image.read_exact_at(&mut there, 24 * 512).unwrap();
    assert_eq!(there, other);
}

/// QEMU's daemon logs what it writes; rust-vmm's does not offer to, and the engine is told.
fn logs_or_is_known_not_to(peer: Peer, logs: bool) {
    let Some(mut board) = Board::new(peer) else { return };
    board.connect();
    assert!(matches!(board.advance_until_report(), Report::Up));
    assert_eq!(board.engine.record().unlogged, !logs);
    board.probe();
    board.marked();
    board.read_disk(0);
    assert_eq!(board.marked(), [logs; 2]);
    assert_eq!(board.engine.record().rings.len(), 1);
    board.write_disk(0, &[1; 4096]);
    assert_eq!(board.marked(), [logs, false]);
    board.reset();
    assert_eq!(board.engine.record().rings, []);
}

fn reset_on_the_same_connection(peer: Peer) {
    let Some(mut board) = Board::new(peer) else { return };
    board.connect();
    assert!(matches!(board.advance_until_report(), Report::Up));
    for turn in 0..3u8 {
        board.probe();
        board.write_disk(0, &[turn; 4096]);
        assert_eq!(board.read_disk(0), [turn; 4096]);
        board.reset();
    }
}

fn death_and_successor(peer: Peer) {
    let Some(mut board) = Board::new(peer) else { return };
    board.connect();
    assert!(matches!(board.advance_until_report(), Report::Up));
    board.probe();
    board.write_disk(0, &[1; 4096]);
    board.kill_daemon();
    assert!(matches!(board.advance_until_report(), Report::Fault(Fault::HungUp)));
    assert!(matches!(board.advance_until_report(), Report::NeedsReset));
    assert_eq!(board.status(), 0x4f);
    board.start_daemon();
    board.connect();
    assert!(matches!(board.reset()[..], [Report::Up]));
    board.probe();
    assert_eq!(board.read_disk(0), [1; 4096]);
}

#[test]
fn the_driver_sees_the_disk_of_qemus_daemon_and_reads_and_writes_it() {
    reads_and_writes(Peer::StorageDaemon);
}

#[test]
fn the_driver_sees_the_disk_of_rust_vmms_daemon_and_reads_and_writes_it() {
    reads_and_writes(Peer::RustVmm);
}

#[test]
fn qemus_daemon_marks_the_pages_that_it_writes() {
    logs_or_is_known_not_to(Peer::StorageDaemon, true);
}

#[test]
fn rust_vmms_daemon_is_known_to_mark_nothing() {
    logs_or_is_known_not_to(Peer::RustVmm, false);
}

#[test]
fn a_reset_device_works_again_on_the_same_connection_to_qemus_daemon() {
    reset_on_the_same_connection(Peer::StorageDaemon);
}

#[test]
fn a_reset_device_works_again_on_the_same_connection_to_rust_vmms_daemon() {
    reset_on_the_same_connection(Peer::RustVmm);
}

#[test]
fn the_death_of_qemus_daemon_needs_a_reset_and_its_successor_serves_after_it() {
    death_and_successor(Peer::StorageDaemon);
}

#[test]
fn the_death_of_rust_vmms_daemon_needs_a_reset_and_its_successor_serves_after_it() {
    death_and_successor(Peer::RustVmm);
}
