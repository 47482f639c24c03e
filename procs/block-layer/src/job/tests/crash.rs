//! Deaths of the process and crashes of the host in the middle of each job.

use std::rc::Rc;

use super::rig::*;
use crate::job::*;
use crate::qcow2::Layer;
use crate::qcow2::tests::crash::qemu_check;
use crate::storage::memory::MemoryFile;

/// Runs of each job with the other tests; `BULKHEAD_CRASHES` sets another number.
const FEW: u64 = 12;

fn runs() -> u64 {
    let given = std::env::var("BULKHEAD_CRASHES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

pub const KINDS: [&str; 6] = ["stream", "base", "commit", "active", "mirror", "backup"];

/// A job of a kind, and the file of its target.
fn job(rig: &Rig, kind: &str, seed: u64) -> (Job<MemoryFile>, Option<Link>) {
    let disk = Rc::clone(&rig.disk);
    let chain: Vec<Layer<MemoryFile>> = disk.top().chain().collect();
    let name =
        Some(BackingName { name: "b".repeat(1 + seed as usize % 200), format: "raw".into() });
    let (top, last) = (chain[0].clone(), chain[chain.len() - 1].clone());
    let job = match kind {
        "stream" => Job::Stream(Stream { disk, into: top, base: None, name: None }),
        "base" => Job::Stream(Stream { disk, into: top, base: Some(last), name }),
        "commit" => {
            let top = chain[1].clone();
            Job::Commit(Commit { disk, top, base: last, name, header: None })
        }
        "active" => Job::Commit(Commit { disk, top, base: last, name: None, header: None }),
        _ => {
            let link = match seed % 2 {
                0 => raw(vec![0; SIZE as usize]),
                _ => qcow2(65536, false, SIZE),
            };
            rig.interleave(&link);
            let target = open(&link, None);
            rig.supervisor.registry.add(&target, link.clone());
            if kind == "backup" {
                let backup = Backup { disk, target, extent: Extent::Full };
                return (Job::Backup(backup), Some(link));
            }
            let mode = match seed % 4 {
                0 | 1 => CopyMode::Background,
                _ => CopyMode::WriteBlocking,
            };
            let (sync, granularity) = (Sync::Full, None);
            let mirror = Mirror { disk, target, sync, mode, granularity, target_is_zero: true };
            return (Job::Mirror(mirror), Some(link));
        }
    };
    (job, None)
}

/// A guest, and a job that is completed once it is ready.
pub fn begin(kind: &str, seed: u64, forgiving: bool) -> (Rig, Rc<Control>, Option<Link>) {
    let mut rig = Rig::usual(3, seed);
    // Something in every layer, and then the job.
    rig.guest(3, 30);
    rig.run();
    let (job, target) = job(&rig, kind, seed);
    rig.is_forgiving = forgiving;
    rig.guest(4, 100);
    let control = rig.job(job, Settings::default());
    let given = Rc::clone(&control);
    rig.tasks.spawn(async move { complete_when_ready(&given).await });
    (rig, control, target)
}

/// A successor opens what the supervisor has written down, with the journals, and finds every answered
/// change.
#[test]
fn a_killed_process_loses_nothing_that_was_answered() {
    for kind in KINDS {
        for seed in 0..runs() {
            let (mut rig, ..) = begin(kind, seed, false);
            for _ in 0..rig.chance.below(4000) {
                rig.step();
            }
            let name = format!("{kind}, {seed}");
            rig.tasks = crate::task::Tasks::default();
            let links = rig.supervisor.record.0.borrow().clone();
            let top = open_chain(&links, &Registry::default());
            let bytes = read(&top);
            for (index, bytes) in bytes.chunks(SECTOR as usize).enumerate() {
                let sector = &rig.sectors.borrow()[index];
                let read = bytes[0];
                assert!(sector.may_be(read), "{name}: sector {index} reads {read}: {sector:?}");
                assert!(bytes.iter().all(|byte| *byte == read), "{name}: sector {index} is torn");
            }
            // What it leaves is as right as what it took over.
            assert_eq!(crate::task::finish(top.close()), Ok(()), "{name}: a successor's commit");
            for link in &links {
                check(&link.file.bytes(), link.raw, &name);
            }
        }
    }
}

/// Whatever part of what was written since the last flush has reached the device: the images have no
/// errors, and the disk has what was flushed or what came later.
#[test]
fn a_crash_of_the_host_keeps_all_that_was_flushed_and_every_image_sound() {
    for kind in KINDS {
        for seed in 0..runs() {
            let (mut rig, ..) = begin(kind, seed, false);
            for state in 0..6 {
                for _ in 0..rig.chance.below(700) {
                    rig.step();
                }
                let name = format!("{kind}, {seed}, state {state}");
                let odds = rig.chance.below(5);
                let number = seed * 6 + state;
                let crashed = |link: &Link| Link {
                    file: MemoryFile::with(
                        link.file.crashed(usize::MAX, || rig.chance.below(4) < odds),
                    ),
                    ..link.clone()
                };
                let links: Vec<Link> =
                    rig.supervisor.record.0.borrow().iter().map(crashed).collect();
                for link in &links {
                    check(&link.file.bytes(), link.raw, &name);
                    if !link.raw {
                        qemu_check(number, &link.file.bytes(), &name);
                    }
                }
                let bytes = read(&open_read_only(&links));
                for (index, bytes) in bytes.chunks(SECTOR as usize).enumerate() {
                    let sector = &rig.sectors.borrow()[index];
                    let right = bytes[0] == sector.now || sector.since.contains(&bytes[0]);
                    assert!(right, "{name}: sector {index} reads {}: {sector:?}", bytes[0]);
                }
            }
        }
    }
}
