//! Who dies, and when.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_harness::storage::{Process, Storage};
use nix::sys::signal::Signal;

use crate::driver::Shared;
use crate::pauses::Pauses;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The device process.
    VhostBlk,
    /// The block layer.
    BlockLayer,
    /// Both at once.
    Both,
    /// Whoever there is, successors before they are ready.
    Rapid,
}

const BLK: &str = "vhost-blk";
const LAYER: &str = "block-layer";

/// How long a test waits for a successor before it gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Successors that are killed in a row in a rapid succession.
const ROW: u64 = 5;

/// Kills `kills` times while the load runs, each time after some progress. How many died.
pub fn kill(storage: &Storage, shared: &Shared, victim: Victim, kills: u64, pauses: &mut Pauses) -> u64 {
    let mut dead = 0;
    while dead < kills {
        let progress = 20 + dead * 7 % 100;
        wait_for_progress(shared, progress);
        shared.gap.store(0, Ordering::Relaxed);
        let before = storage.processes();
        let fell = strike(storage, &before, victim);
        wait_for_successors(storage, &before, victim);
        wait_for_progress(shared, 4);
        pauses.add(Duration::from_micros(shared.gap.load(Ordering::Relaxed)));
        dead += fell;
    }
    dead
}

fn strike(storage: &Storage, before: &[Process], victim: Victim) -> u64 {
    match victim {
        Victim::VhostBlk => fell(before, &[BLK]),
        Victim::BlockLayer => fell(before, &[LAYER]),
        Victim::Both => fell(before, &[BLK, LAYER]),
        Victim::Rapid => (0..ROW).map(|round| {
            let role = if round % 2 == 0 { BLK } else { LAYER };
            fell(&storage.processes(), &[role])
        })
        .sum(),
    }
}

/// Kills the processes of these roles; 1 if all of them were there to die, else 0.
fn fell(processes: &[Process], roles: &[&str]) -> u64 {
    let mut victims = processes.iter().filter(|process| roles.contains(&process.role.as_str()));
    u64::from(victims.all(|process| process.signal(Signal::SIGKILL)))
}

/// Waits until every victim has a successor that runs.
fn wait_for_successors(storage: &Storage, before: &[Process], victim: Victim) {
    let roles: &[&str] = match victim {
        Victim::VhostBlk => &[BLK],
        Victim::BlockLayer => &[LAYER],
        Victim::Both | Victim::Rapid => &[BLK, LAYER],
    };
    for process in before.iter().filter(|process| roles.contains(&process.role.as_str())) {
        storage.wait_for_restart(&process.role, process.restarts + 1);
    }
}

/// Waits until the drivers have completed `requests` more.
pub fn wait_for_progress(shared: &Shared, requests: u64) {
    let goal = shared.completed.load(Ordering::Relaxed) + requests;
    let start = Instant::now();
    while shared.completed.load(Ordering::Relaxed) < goal {
        // A driver that found a fault ends the load, and its error says what it was.
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "no progress");
        std::thread::sleep(Duration::from_micros(500));
    }
}
