//! Jobs that are made to wait, and an operator who never lets them go on: their disk is nobody's hostage.

use std::rc::Rc;

use super::rig::*;
use crate::job::*;
use crate::qcow2::Layer;
use crate::storage::memory::MemoryFile;

fn jobs(rig: &Rig, target: &Layer<MemoryFile>) -> [Job<MemoryFile>; 2] {
    let (disk, sync, mode) = (Rc::clone(&rig.disk), Sync::Full, CopyMode::WriteBlocking);
    let (granularity, target_is_zero) = (None, true);
    let (target, other) = (target.clone(), target.clone());
    let mirror = Mirror { disk, target, sync, mode, granularity, target_is_zero };
    let backup = Backup { disk: Rc::clone(&rig.disk), target: other, extent: Extent::Full };
    [Job::Mirror(mirror), Job::Backup(backup)]
}

fn begun(kind: usize, seed: u64) -> (Rig, Rc<Control>) {
    let mut rig = Rig::usual(1, seed);
    let link = raw(vec![0; SIZE as usize]);
    let target = open(&link, None);
    rig.supervisor.registry.add(&target, link.clone());
    rig.interleave(&link);
    let job = jobs(&rig, &target).into_iter().nth(kind).unwrap();
    let control = rig.job(job, Settings::default());
    (rig, control)
}

/// Everybody but the job comes to an end.
fn finish_guests(rig: &mut Rig, name: &str) {
    while rig.tasks.running() > 1 {
        assert!(rig.step(), "{name}: {} requests wait for the job", rig.tasks.running() - 1);
    }
}

#[test]
fn a_job_that_is_paused_or_slow_holds_no_request_up() {
    for (kind, seed) in (0..2).flat_map(|kind| (0..32).map(move |seed| (kind, seed))) {
        let name = format!("job {kind}, {seed}");
        let (mut rig, control) = begun(kind, seed);
        for _ in 0..seed * 3 {
            rig.step();
        }
        match seed % 2 {
            0 => control.pause(),
            _ => control.set_speed(1),
        }
        rig.guest(6, 40);
        finish_guests(&mut rig, &name);
        assert_eq!(control.status().failure, None);
        control.set_speed(0);
        control.resume();
        rig.complete(&control);
        assert_eq!(ended(&control), Ok(()), "{name}");
        rig.verify(&name);
    }
}
