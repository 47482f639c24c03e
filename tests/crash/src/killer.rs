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

impl Victim {
    fn roles(self) -> &'static [&'static str] {
        match self {
            Self::VhostBlk => &[BLK],
            Self::BlockLayer => &[LAYER],
            Self::Both | Self::Rapid => &[BLK, LAYER],
        }
    }
}

/// Kills `kills` times while the load runs, each time after some progress. How many died, counted by
/// their successors: of both, the pairs; in rapid succession, all.
pub fn kill(
    storage: &Storage,
    shared: &Shared,
    victim: Victim,
    kills: u64,
    pauses: &mut Pauses,
) -> u64 {
    let mut dead = 0;
    while dead < kills && !shared.stop.load(Ordering::Relaxed) {
        wait_for_progress(shared, 1 + dead * 7 % 60);
        shared.gap.store(0, Ordering::Relaxed);
        let before = storage.processes();
        strike(storage, &before, victim);
        let successors = wait_for_successors(storage, &before, victim);
        wait_for_progress(shared, 4);
        pauses.add(Duration::from_micros(shared.gap.load(Ordering::Relaxed)));
        dead += match victim {
            Victim::Rapid => successors.iter().sum(),
            _ => successors.iter().copied().min().unwrap_or(0),
        };
    }
    dead
}

fn strike(storage: &Storage, before: &[Process], victim: Victim) {
    if victim != Victim::Rapid {
        return fell(before, victim.roles());
    }
    fell(before, &[BLK]);
    for round in 0..ROW {
        let role = if round % 2 == 0 { LAYER } else { BLK };
        fell(&storage.processes(), &[role]);
    }
}

fn fell(processes: &[Process], roles: &[&str]) {
    for process in processes.iter().filter(|process| roles.contains(&process.role.as_str())) {
        process.signal(Signal::SIGKILL);
    }
}

/// Waits until every victim has a successor that runs; how many each has had since `before`.
fn wait_for_successors(storage: &Storage, before: &[Process], victim: Victim) -> Vec<u64> {
    let victims = before.iter().filter(|process| victim.roles().contains(&process.role.as_str()));
    let successors = victims.map(|old| {
        let new = storage.wait_for_restart(&old.role, old.restarts + 1);
        new.restarts - old.restarts
    });
    successors.collect()
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
