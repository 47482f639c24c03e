//! What each job leaves behind, while the disk is at rest and while it is in use.

use std::rc::Rc;

use super::rig::*;
use crate::bitmap::Bitmap;
use crate::disk::{Marked, Watcher};
use crate::job::*;
use crate::memory::Heap;
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::memory::MemoryFile;
use crate::task::finish;

fn layers(rig: &Rig) -> Vec<Layer<MemoryFile>> {
    rig.disk.top().chain().collect()
}

/// Gives every layer something of its own before the guest comes.
fn fill_layers(rig: &Rig) {
    for (depth, layer) in layers(rig).iter().enumerate() {
        for piece in 0..6 {
            let at = (piece * 171 + depth as u64 * 37) % (SIZE / SECTOR - 40) * SECTOR;
            let len = SECTOR * (5 + piece * 6);
            match piece % 3 {
                0 => finish(layer.zero(at, len, true)).unwrap(),
                _ => {
                    let bytes = vec![depth as u8 * 10 + piece as u8 + 1; len as usize];
                    finish(layer.write(at, Heap::copy_of(&bytes).into())).unwrap();
                }
            }
        }
        finish(layer.close()).unwrap();
    }
    let bytes = read(&rig.disk.top());
    for (sector, bytes) in rig.sectors.borrow_mut().iter_mut().zip(bytes.chunks(SECTOR as usize)) {
        sector.now = bytes[0];
    }
}

fn filled(overlays: usize, seed: u64) -> Rig {
    let rig = Rig::usual(overlays, seed);
    fill_layers(&rig);
    rig
}

fn target(rig: &Rig, raw_file: bool, seed: u64) -> (Layer<MemoryFile>, Link) {
    let link = match raw_file {
        true => raw(vec![0; SIZE as usize]),
        false => qcow2([65536, 4096][seed as usize % 2], false, SIZE),
    };
    rig.interleave(&link);
    let layer = open(&link, None);
    rig.supervisor.registry.add(&layer, link.clone());
    (layer, link)
}

#[test]
fn a_stream_makes_the_top_independent_of_what_is_below() {
    for seed in 0..16 {
        let mut rig = filled(3, seed);
        let base = (seed % 3 == 1).then(|| layers(&rig)[2].clone());
        let left = if base.is_some() { 3 } else { 1 };
        let name = base.as_ref().map(|_| BackingName { name: "b".into(), format: "qcow2".into() });
        let (disk, into) = (Rc::clone(&rig.disk), rig.disk.top());
        let job = Job::Stream(Stream { disk, into: into.clone(), base, name: name.clone() });
        rig.guest(4, 60);
        let control = rig.job(job, Settings::default());
        rig.run();
        assert_eq!(ended(&control), Ok(()));
        let status = control.status();
        assert_eq!((status.offset, status.len), (SIZE, SIZE));
        assert_eq!(layers(&rig).len(), left);
        let Layer::Qcow2(image) = into else { panic!() };
        assert_eq!(image.header().backing, name.map(|name| name.name));
        rig.verify(&format!("stream, {seed}"));
    }
}

#[test]
fn a_stream_down_to_the_next_layer_changes_nothing() {
    let mut rig = filled(2, 1);
    let before = layers(&rig);
    let (disk, into) = (Rc::clone(&rig.disk), rig.disk.top());
    let (base, name) = (Some(before[1].clone()), None);
    let control = rig.job(Job::Stream(Stream { disk, into, base, name }), Settings::default());
    rig.run();
    assert_eq!(ended(&control), Ok(()));
    assert_eq!(rig.supervisor.switches.get(), 0, "it went over to another chain");
    assert_eq!(layers(&rig).len(), before.len());
}

#[test]
fn a_commit_brings_nothing_to_light_that_a_shorter_layer_hid() {
    let long = raw(pattern(SIZE / SECTOR));
    let rig = Rig::new(vec![qcow2(4096, true, SIZE), qcow2(4096, true, SIZE / 2), long], 1);
    let [above, top, base] = layers(&rig).try_into().unwrap();
    assert!(read(&above)[SIZE as usize / 2..].iter().all(|byte| *byte == 0));
    let reason = Commit::refuse(&rig.disk, &top, &base).unwrap_err();
    assert!(reason.contains("come to light"), "{reason}");
}

#[test]
fn a_commit_below_the_top_takes_layers_out_of_the_chain() {
    for seed in 0..16 {
        let mut rig = filled(4, seed);
        let chain = layers(&rig);
        let (top, base) = (chain[1 + seed as usize % 2].clone(), chain[3].clone());
        let name = Some(BackingName { name: "b".into(), format: "qcow2".into() });
        let job = Commit { disk: Rc::clone(&rig.disk), top: top.clone(), base, name, header: None };
        rig.guest(4, 60);
        let control = rig.job(Job::Commit(job), Settings::default());
        rig.run();
        assert_eq!(ended(&control), Ok(()));
        assert_eq!(control.status().offset, SIZE);
        assert!(rig.disk.top().depth_of(&top).is_none());
        rig.verify(&format!("commit, {seed}"));
    }
}

#[test]
fn an_active_commit_follows_the_disk_and_gives_its_place_to_the_base() {
    for seed in 0..16 {
        let mut rig = filled(2, seed);
        let chain = layers(&rig);
        let base = chain[1 + seed as usize % 2].clone();
        let job = Commit {
            disk: Rc::clone(&rig.disk),
            top: chain[0].clone(),
            base,
            name: None,
            header: None,
        };
        rig.guest(4, 80);
        let control = rig.job(Job::Commit(job), Settings::default());
        rig.complete(&control);
        assert_eq!(ended(&control), Ok(()));
        assert!(rig.disk.top().is(&chain[1 + seed as usize % 2]));
        rig.verify(&format!("active commit, {seed}"));
    }
}

#[test]
fn a_mirror_follows_the_disk_and_takes_its_place() {
    for seed in 0..32 {
        let mut rig = filled(1 + seed as usize % 3, seed);
        let (target, _) = target(&rig, seed % 4 < 2, seed);
        let mode = if seed % 2 == 0 { CopyMode::Background } else { CopyMode::WriteBlocking };
        let job = Mirror {
            disk: Rc::clone(&rig.disk),
            target: target.clone(),
            sync: Sync::Full,
            mode,
            granularity: [None, Some(512), Some(1 << 20)][seed as usize % 3],
            target_is_zero: true,
        };
        rig.guest(4, 80);
        let control = rig.job(Job::Mirror(job), Settings::default());
        rig.complete(&control);
        assert_eq!(ended(&control), Ok(()));
        assert!(rig.disk.top().is(&target));
        let status = control.status();
        assert_eq!(status.offset, status.len);
        rig.verify(&format!("mirror, {mode:?}, {seed}"));
    }
}

#[test]
fn a_mirror_that_is_cancelled_when_ready_leaves_a_whole_copy_and_the_disk_as_it_was() {
    for seed in 0..8 {
        let mut rig = filled(1, seed);
        let (target, _) = target(&rig, seed % 2 == 0, seed);
        let before = rig.disk.top();
        let job = Mirror {
            disk: Rc::clone(&rig.disk),
            target: target.clone(),
            sync: Sync::Full,
            mode: CopyMode::Background,
            granularity: None,
            target_is_zero: false,
        };
        rig.guest(3, 30);
        let control = rig.job(Job::Mirror(job), Settings::default());
        while control.status().state != JobState::Ready {
            assert!(rig.step());
        }
        control.cancel(false);
        while control.status().state != JobState::Concluded {
            assert!(rig.step());
        }
        assert!(control.status().cancelled && control.status().failure.is_none());
        assert!(rig.disk.top().is(&before));
        // What was answered by then is in it; nobody has gone on since.
        let (copy, sectors) = (read(&target), rig.sectors.borrow().clone());
        for (sector, bytes) in sectors.iter().zip(copy.chunks(SECTOR as usize)) {
            assert!(sector.under_way.is_some() || bytes[0] == sector.now);
        }
        rig.run();
        rig.verify("cancelled");
    }
}

#[test]
fn a_mirror_of_the_top_has_what_the_top_has() {
    let mut rig = filled(2, 3);
    let link = qcow2(65536, true, SIZE);
    let below = rig.disk.top().backing();
    let target = open(&link, below);
    rig.supervisor.registry.add(&target, link);
    let job = Mirror {
        disk: Rc::clone(&rig.disk),
        target: target.clone(),
        sync: Sync::Top,
        mode: CopyMode::Background,
        granularity: None,
        target_is_zero: true,
    };
    rig.guest(3, 60);
    let control = rig.job(Job::Mirror(job), Settings::default());
    rig.complete(&control);
    assert_eq!(ended(&control), Ok(()));
    assert_eq!(layers(&rig).len(), 3);
    rig.verify("mirror of the top");
}

#[test]
fn a_backup_is_the_disk_as_it_was_when_it_began() {
    for seed in 0..16 {
        let mut rig = filled(2, seed);
        let (target, _) = target(&rig, seed % 2 == 0, seed);
        let then = read(&rig.disk.top());
        let job =
            Backup { disk: Rc::clone(&rig.disk), target: target.clone(), extent: Extent::Full };
        let control = rig.job(Job::Backup(job), Settings::default());
        // The first turn of the job is its moment; nobody has written yet.
        rig.guest(4, 60);
        rig.run();
        assert_eq!(ended(&control), Ok(()));
        let status = control.status();
        assert_eq!((status.offset, status.len), (SIZE, SIZE));
        assert!(read(&target) == then, "{seed}");
        rig.verify("backup");
    }
}

fn by(bitmap: &Rc<Bitmap>, mode: BitmapMode) -> Extent<MemoryFile> {
    Extent::Bitmap(ByBitmap::claim(Marked::Memory(Rc::clone(bitmap)), mode).unwrap())
}

#[test]
fn a_backup_by_a_bitmap_brings_the_last_one_up_to_date() {
    for seed in 0..8 {
        let mut rig = filled(1, seed);
        let (target, _) = target(&rig, true, seed);
        let bitmap = Rc::new(Bitmap::new(SIZE, 4096));
        let attached = {
            let disk = Rc::clone(&rig.disk);
            let watcher = Watcher::Bitmap(Rc::clone(&bitmap));
            finish(async move { disk.attach(watcher).await })
        };
        bitmap.set(0..SIZE);
        for round in 0..3 {
            let then = read(&rig.disk.top());
            let marked = bitmap.dirty_bytes();
            let extent = by(&bitmap, BitmapMode::OnSuccess);
            let disk = Rc::clone(&rig.disk);
            let control = rig.job(
                Job::Backup(Backup { disk, target: target.clone(), extent }),
                Settings::default(),
            );
            rig.guest(2, 10);
            rig.run();
            assert_eq!(ended(&control), Ok(()));
            assert!(control.status().len >= marked.min(SIZE), "{round}");
            assert!(read(&target) == then, "{seed}, {round}");
            assert!(round == 0 || control.status().len < SIZE);
        }
        drop(attached);
    }
}

#[test]
fn a_cancelled_backup_gives_the_bitmap_back() {
    let mut rig = filled(1, 1);
    let (target, _) = target(&rig, true, 1);
    let bitmap = Rc::new(Bitmap::new(SIZE, 4096));
    bitmap.set(0..300_000);
    let extent = by(&bitmap, BitmapMode::OnSuccess);
    let job = Backup { disk: Rc::clone(&rig.disk), target, extent };
    let control = rig.job(Job::Backup(job), Settings::default());
    assert!(bitmap.is_busy());
    control.cancel(false);
    rig.run();
    assert_eq!(ended(&control), Err(Ended::Cancelled));
    assert!(!bitmap.is_busy());
    assert_eq!(bitmap.next_dirty(0, u64::MAX), Some(0..303_104));
}

#[test]
fn a_target_of_another_size_is_refused_with_both_sizes() {
    let rig = filled(1, 2);
    let target = Layer::raw(MemoryFile::with(vec![0; 4096]), 4096);
    let job = Mirror {
        disk: Rc::clone(&rig.disk),
        target: target.clone(),
        sync: Sync::Full,
        mode: CopyMode::Background,
        granularity: None,
        target_is_zero: true,
    };
    let why = job.refuse().unwrap_err();
    assert!(why.contains("4096") && why.contains("1048576"), "{why}");
    let host = rig.supervisor.clone();
    let clock = Rc::clone(&rig.clock) as Rc<dyn crate::clock::Clock>;
    let control = Control::new(JobKind::Mirror, Settings::default(), clock);
    let ended = finish(Job::Mirror(job).run(&control, &host));
    assert_eq!(ended, Err(Ended::Failed(Failure::INVALID)));
}

#[test]
fn a_job_keeps_its_speed_and_pauses_and_goes_on() {
    let mut rig = filled(1, 4);
    let (target, _) = target(&rig, true, 4);
    let job = Backup { disk: Rc::clone(&rig.disk), target, extent: Extent::Full };
    let control = rig.job(job.into_job(), Settings { speed: 256 << 10, ..Settings::default() });
    use crate::clock::Clock;
    rig.run();
    let took = rig.clock.now().as_secs_f64();
    assert!((2.0..=4.5).contains(&took), "{took}");
    assert_eq!(control.status().offset, SIZE);

    let (target, _) = super::results::target(&rig, true, 5);
    let job = Backup { disk: Rc::clone(&rig.disk), target, extent: Extent::Full };
    let control = rig.job(job.into_job(), Settings::default());
    control.pause();
    for _ in 0..1000 {
        rig.step();
    }
    assert_eq!(control.status().state, JobState::Paused);
    assert!(control.status().offset < SIZE);
    control.resume();
    rig.run();
    assert_eq!(ended(&control), Ok(()));
}

trait IntoJob {
    fn into_job(self) -> Job<MemoryFile>;
}

impl IntoJob for Backup<MemoryFile> {
    fn into_job(self) -> Job<MemoryFile> {
        Job::Backup(self)
    }
}
