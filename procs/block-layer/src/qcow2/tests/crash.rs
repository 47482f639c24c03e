//! Crashes of the host, and deaths of the process.

use super::rig::{KINDS, Kind, Rig, Steps};
use super::*;
use crate::storage::memory::Entry;

/// Crash states of each run with the other tests; `BULKHEAD_CRASHES` sets another number.
const FEW: u64 = 60;

pub fn states() -> u64 {
    let given = std::env::var("BULKHEAD_CRASHES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

/// `BULKHEAD_QEMU_CHECK=N`: QEMU checks every Nth state too.
pub fn qemu_check(number: u64, bytes: &[u8], name: &str) {
    let given = std::env::var("BULKHEAD_QEMU_CHECK").ok();
    let Some(every) = given.and_then(|text| text.parse::<u64>().ok()) else {
        return;
    };
    if !number.is_multiple_of(every.max(1)) {
        return;
    }
    let dir = tempfile::TempDir::new_in("/dev/shm").unwrap();
    std::fs::write(dir.path().join("image"), bytes).unwrap();
    let mut program = std::process::Command::new("qemu-img");
    // By itself: what lies below is no matter of its soundness.
    let image =
        r#"json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"image"}}"#;
    program.args(["check", image]).current_dir(dir.path());
    let output = program.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    // 3: leaks, which are no errors.
    let sound = matches!(output.status.code(), Some(0 | 3));
    assert!(sound, "{name}: {}", String::from_utf8_lossy(&text));
}

/// Random work with flushes; the disk as each flush left it, by the number of the mark in the log. Images
/// with snapshots keep their bitmaps and sizes, so these change under other seeds.
fn work(kind: &Kind, seed: u64) -> (Rig, Vec<Vec<u8>>) {
    let mut rig = Rig::new(kind, seed);
    rig.file.interleave(2, seed + 1);
    let mut steps = Steps::new(seed);
    let mut flushed = vec![rig.model.clone()];
    let with_snapshots = seed.is_multiple_of(2);
    for round in 1..10 {
        rig.run_together(&mut steps, 6);
        finish(rig.image().flush()).unwrap();
        rig.file.mark(round * 2 - 1);
        flushed.push(rig.model.clone());
        match with_snapshots {
            true => assert!(rig.snapshot_step(&mut steps), "{kind:?}, {seed}: a snapshot"),
            false => rig.whole_step(&mut steps),
        }
        rig.file.mark(round * 2);
        flushed.push(rig.model.clone());
    }
    (rig, flushed)
}

/// A crash of the host somewhere in the log: what is left of the file, and the mark before.
fn crash(rig: &Rig, chance: &mut Steps) -> (Vec<u8>, usize) {
    let log = rig.file.log();
    let entries = chance.below(log.len() as u64 + 1) as usize;
    let odds = chance.below(5);
    let bytes = rig.file.crashed(entries, || chance.below(4) < odds);
    let mark = log[..entries].iter().rev().find_map(|entry| match entry {
        Entry::Mark(mark) => Some(*mark as usize),
        _ => None,
    });
    (bytes, mark.unwrap_or(0))
}

/// A byte after a crash is as some state since the last flush has it; sectors are whole.
#[test]
fn every_crash_leaves_an_image_without_errors_and_with_all_that_was_flushed() {
    for (number, kind) in KINDS.iter().enumerate() {
        for seed in 0..4u64 {
            let (rig, flushed) = work(kind, seed.div_ceil(2) * 100 + number as u64 * 2 + seed % 2);
            let mut chance = Steps::new(seed + 1);
            for state in 0..states() {
                let (bytes, mark) = crash(&rig, &mut chance);
                let name = format!("{kind:?}, {seed}, state {state}");
                rig.check_bytes(bytes.clone(), &name);
                qemu_check(state, &bytes, &name);
                if state % 8 == 0 {
                    rig.verify_snapshots(&bytes, &name);
                }
                let disk = rig.disk_of(bytes);
                judge(&disk, &flushed[mark], flushed.get(mark + 1), &name);
            }
        }
    }
}

/// Every sector is as one of two moments has it; so is the size. What only one of the disks has may be
/// zeroes: it is cut off, or new.
fn judge(disk: &[u8], then: &[u8], later: Option<&Vec<u8>>, name: &str) {
    let Some(later) = later else {
        return assert!(disk == then, "{name}: nothing happened since");
    };
    assert!(disk.len() == then.len() || disk.len() == later.len(), "{name}: {} bytes", disk.len());
    let is_resized = then.len() != later.len();
    for (index, sector) in disk.chunks(512).enumerate() {
        let is = |disk: &[u8]| disk.get(index * 512..index * 512 + 512) == Some(sector);
        let cut = is_resized && index * 512 >= then.len().min(later.len());
        let gone = cut && sector.iter().all(|byte| *byte == 0);
        let at = |disk: &[u8]| disk.get(index * 512).copied();
        let (is_now, was, becomes) = (sector[0], at(then), at(later));
        let told =
            format!("{is_now}, neither {was:?} nor {becomes:?}, {} > {}", then.len(), later.len());
        assert!(is(then) || is(later) || gone, "{name}: sector {index} is {told}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_answered() {
    for (number, kind) in KINDS.iter().enumerate() {
        for seed in 0..8 {
            let name = format!("{kind:?}, {seed}");
            let mut rig = Rig::new(kind, seed);
            let mut steps = Steps::new(seed * 31 + number as u64);
            for _ in 0..12 {
                rig.run_together(&mut steps, 4);
                if steps.below(3) == 0 {
                    // Killed in the middle of a commit, now and then.
                    let calls = steps.below(12);
                    rig.file.fail_after(calls, Failure::IO);
                    let _ = finish(rig.image().flush());
                    rig.file.heal();
                }
                if steps.below(3) == 0 {
                    assert!(rig.snapshot_step(&mut steps), "{name}: a snapshot");
                }
                if steps.below(2) == 0 {
                    rig.reopen();
                    rig.verify(&name);
                }
            }
            rig.close_and_check(&name);
        }
    }
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_a_snapshot_has_taken_it_or_not() {
    for (number, kind) in KINDS.iter().enumerate() {
        for seed in 0..6 {
            let name = format!("{kind:?}, {seed}");
            let mut rig = Rig::new(kind, seed);
            let mut steps = Steps::new(seed * 13 + number as u64);
            for _ in 0..10 {
                rig.run_together(&mut steps, 3);
                rig.snapshot_step(&mut steps);
                rig.run_together(&mut steps, 3);
                let (model, snapshots) = (rig.model.clone(), rig.snapshots.clone());
                rig.file.fail_after(steps.below(40), Failure::IO);
                let applied = rig.snapshot_step(&mut steps) && rig.model != model;
                rig.file.heal();
                rig.reopen();
                if !applied {
                    // It may have come into force and not have been told so.
                    let now = super::rig::read(&rig.image(), 0, rig.model.len() as u64);
                    let known = snapshots.iter().any(|(_, model)| *model == now);
                    assert!(now == model || known, "{name}: the disk is none that ever was");
                    rig.model = now;
                }
                let there = rig.image().snapshots();
                rig.snapshots = snapshots;
                rig.snapshots.retain(|(name, _)| there.iter().any(|other| other.name == *name));
                rig.verify(&name);
                let bytes = rig.file.bytes();
                rig.check_bytes(bytes.clone(), &name);
                rig.verify_snapshots(&bytes, &name);
            }
            rig.close_and_check(&name);
        }
    }
}

/// Commits, and operations beside them that release clusters; then a successor, which must neither free
/// anything twice nor forget to, whether the last commit had forgotten its records or not.
#[test]
fn what_is_released_during_a_commit_is_freed_once_by_a_successor() {
    for (number, kind) in KINDS.iter().enumerate() {
        for seed in 0..12 {
            let name = format!("{kind:?}, {seed}");
            let mut rig = Rig::new(kind, seed);
            if seed % 2 == 1 {
                rig.journal = Remembered::forgetting_late();
                rig.reopen();
            }
            let mut steps = Steps::new(seed * 41 + number as u64);
            for round in 0..10 {
                rig.file.interleave(3, seed * 99 + round + 1);
                rig.run_together(&mut steps, 12);
                rig.file.interleave(0, 1);
                if steps.below(4) == 0 {
                    assert!(rig.snapshot_step(&mut steps), "{name}: a snapshot");
                }
                if steps.below(2) == 0 {
                    rig.reopen();
                    rig.verify(&name);
                }
                rig.check_bytes(rig.file.bytes(), &name);
            }
            rig.reopen();
            rig.verify(&name);
            rig.close_and_check(&name);
        }
    }
}

#[test]
fn a_process_that_is_killed_half_way_through_leaks_nothing() {
    for (number, kind) in KINDS.iter().enumerate() {
        for seed in 0..20 {
            let name = format!("{kind:?}, {seed}");
            let mut rig = Rig::new(kind, seed);
            let mut steps = Steps::new(seed * 17 + number as u64);
            for round in 0..8 {
                rig.run_together(&mut steps, 3);
                rig.file.interleave(3, seed * 99 + round + 1);
                rig.die_writing(&mut steps, 6, &name);
                rig.file.interleave(0, 1);
            }
            rig.close_and_check(&name);
        }
    }
}

/// The file as it is, without the journal: what is left if the host dies together with the process.
#[test]
fn a_killed_process_leaves_an_image_without_errors() {
    for kind in &KINDS {
        for seed in 0..4u64 {
            let mut rig = Rig::new(kind, seed);
            let mut steps = Steps::new(seed + 1000);
            for _ in 0..6 {
                rig.run_together(&mut steps, 4);
                rig.check_bytes(rig.file.bytes(), &format!("{kind:?}, {seed}"));
            }
        }
    }
}
