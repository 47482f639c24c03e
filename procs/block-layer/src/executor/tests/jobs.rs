//! Jobs and snapshots as the supervisor orders them, and what they leave in the files.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bulkhead_protocol::block::{
    BlockAnswer, BlockOrder, JOURNAL_BYTES, JobEnd, JobKind, JobPlan, JobStatus, LayerFormat,
    NamedLayer, TargetPlan,
};
use bulkhead_protocol::block_control::{
    BitmapAction, CopyMode, ErrorPolicy, Extent as WantedExtent, JobAction,
};
use tempfile::NamedTempFile;

use super::*;
use crate::memory::{Heap, Memory};
use crate::qcow2::journal::Nothing;
use crate::qcow2::{Files, Options, Qcow2};
use crate::storage::Plain;
use crate::task::finish;

/// Beside the build's output: a real file system, where /tmp may be none.
const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

const O_DIRECT: i32 = 0o40000;

fn target(format: LayerFormat, create: Option<u32>, cache: CacheMode) -> TargetPlan {
    let named = NamedLayer { layer: 9, name: "the target".to_owned(), format };
    TargetPlan { named, create, cache, remote: None }
}

fn fds(file: &Path, plan: &TargetPlan) -> Vec<OwnedFd> {
    let flags = if plan.cache == CacheMode::None { O_DIRECT } else { 0 };
    let opened = File::options().read(true).write(true).custom_flags(flags).open(file).unwrap();
    let journal = (plan.named.format == LayerFormat::Qcow2)
        .then(|| bulkhead_sys::memfd::create_sealed("journal", JOURNAL_BYTES).unwrap());
    std::iter::once(opened.into()).chain(journal).collect()
}

fn job(name: &str, speed: u64, kind: JobKind) -> JobPlan {
    let policy = ErrorPolicy::Report;
    let (on_source_error, on_target_error) = (policy, policy);
    JobPlan { job: name.to_owned(), speed, on_source_error, on_target_error, paused: false, kind }
}

fn backup(target: TargetPlan, sync: WantedExtent) -> JobKind {
    JobKind::Backup { target, sync, bitmap: None }
}

fn cancel(rig: &mut Rig, name: &str) -> JobEnd {
    let order = BlockOrder::Job { job: name.to_owned(), action: JobAction::Cancel };
    assert_eq!(rig.ask(order, Vec::new()), BlockAnswer::Done);
    end(rig)
}

fn end(rig: &mut Rig) -> JobEnd {
    match rig.event_like(|event| matches!(event, BlockEvent::JobEnded { .. })) {
        BlockEvent::JobEnded { end, .. } => end,
        other => panic!("{other:?}"),
    }
}

fn bitmap(name: &str, persistent: bool) -> BlockOrder {
    let action = BitmapAction::Add { granularity: 0, persistent, disabled: false };
    BlockOrder::Bitmap { bitmap: name.to_owned(), action }
}

fn write(rig: &mut Rig, number: u64, byte: u8) {
    rig.fill(0, 0, &stamp(byte));
    assert_eq!(rig.call(0, page(0, WRITE, number)), 0);
}

/// An image as somebody else finds it, without its journal.
fn found(path: &Path) -> Qcow2<Plain> {
    let file = Plain::new(File::open(path).unwrap().into(), false).unwrap();
    let files = Files { file, data: None, backing: None };
    let options = Options { chain_given: true, ..Options::READ };
    finish(Qcow2::open(files, Box::new(Nothing), options)).unwrap()
}

fn snapshot(rig: &mut Rig, file: &Path) -> u64 {
    let plan = target(LayerFormat::Qcow2, Some(0), CacheMode::Writeback);
    let order = BlockOrder::Snapshot(plan.clone());
    rig.executor.command(BlockCommand::Order { call: 7, order }, fds(file, &plan)).unwrap();
    match rig.event_like(|event| matches!(event, BlockEvent::Switching { .. })) {
        BlockEvent::Switching { change, .. } => change,
        other => panic!("{other:?}"),
    }
}

fn go_over(rig: &mut Rig, change: u64) {
    rig.executor.command(BlockCommand::Switched { change }, Vec::new()).unwrap();
    rig.event_like(|event| matches!(event, BlockEvent::Answer { call: 7, .. }));
}

#[test]
fn what_a_backup_has_preserved_is_in_its_file_when_it_is_cancelled() {
    let disk = Disk::memory();
    let mut rig = Rig::new(&disk, 1);
    write(&mut rig, 3, 7);
    let file = NamedTempFile::new_in("/dev/shm").unwrap();
    let plan = target(LayerFormat::Qcow2, Some(0), CacheMode::Writeback);
    let (order, fds) =
        (job("b", 0, backup(plan.clone(), WantedExtent::None)), fds(file.path(), &plan));
    assert_eq!(rig.ask(BlockOrder::Start(order), fds), BlockAnswer::Done);
    write(&mut rig, 3, 8);
    assert_eq!(cancel(&mut rig, "b"), JobEnd::Cancelled);
    let read = Heap::zeroes(PAGE as usize);
    finish(found(file.path()).read(3 * PAGE, Memory::from(read.clone()))).unwrap();
    assert_eq!(read.to_vec(), stamp(7));
}

#[test]
fn an_image_that_has_left_the_disk_is_not_written_when_a_backup_ends() {
    let disk = Disk::qcow2(CacheMode::Writeback, "/dev/shm");
    let mut rig = Rig::new(&disk, 1);
    assert_eq!(rig.ask(bitmap("kept", true), Vec::new()), BlockAnswer::Done);
    write(&mut rig, 3, 7);
    let copy = NamedTempFile::new_in("/dev/shm").unwrap();
    copy.as_file().set_len(SIZE).unwrap();
    let plan = target(LayerFormat::Raw, None, CacheMode::Writeback);
    let order = job("b", 1, backup(plan.clone(), WantedExtent::Full));
    let answer = rig.ask(BlockOrder::Start(order), fds(copy.path(), &plan));
    assert_eq!(answer, BlockAnswer::Done);
    let overlay = NamedTempFile::new_in("/dev/shm").unwrap();
    let change = snapshot(&mut rig, overlay.path());
    go_over(&mut rig, change);
    // Somebody else's now.
    let theirs = vec![0xEE; std::fs::metadata(disk.path()).unwrap().len() as usize];
    let file = File::options().write(true).open(disk.path()).unwrap();
    file.write_all_at(&theirs, 0).unwrap();
    assert_eq!(cancel(&mut rig, "b"), JobEnd::Cancelled);
    assert!(std::fs::read(disk.path()).unwrap() == theirs, "it was written");
}

#[test]
fn bitmaps_of_a_layer_are_whole_before_the_snapshot_over_it_is_written_down() {
    let disk = Disk::qcow2(CacheMode::Writeback, "/dev/shm");
    let mut rig = Rig::new(&disk, 1);
    assert_eq!(rig.ask(bitmap("kept", true), Vec::new()), BlockAnswer::Done);
    write(&mut rig, 3, 7);
    let overlay = NamedTempFile::new_in("/dev/shm").unwrap();
    let change = snapshot(&mut rig, overlay.path());
    // Whoever comes after a death now reads the image without its journal.
    assert!(found(disk.path()).bitmap("kept").unwrap().is_consistent());
    // It stays the top after all, and goes on to record.
    let reason = "another disk failed".to_owned();
    rig.executor.command(BlockCommand::Abandoned { change, reason }, Vec::new()).unwrap();
    rig.event_like(|event| matches!(event, BlockEvent::Answer { call: 7, .. }));
    write(&mut rig, 600, 8);
    assert!(!found(disk.path()).bitmap("kept").unwrap().is_consistent());
    let change = snapshot(&mut rig, NamedTempFile::new_in("/dev/shm").unwrap().path());
    go_over(&mut rig, change);
    let image = found(disk.path());
    let kept = finish(image.bitmap_bits("kept")).unwrap();
    assert_eq!(kept.dirty_bytes(), 2 * 65536);
}

#[test]
fn what_a_successor_would_not_open_is_no_new_top() {
    let disk = Disk::qcow2(CacheMode::None, FOLDER);
    let mut rig = Rig::new(&disk, 1);
    let file = NamedTempFile::new_in(FOLDER).unwrap();
    let plan = target(LayerFormat::Qcow2, Some(512), CacheMode::None);
    let (sync, mode) = (WantedExtent::Full, CopyMode::Background);
    let mirror = JobKind::Mirror { target: plan.clone(), sync, granularity: 0, mode };
    for order in [BlockOrder::Snapshot(plan.clone()), BlockOrder::Start(job("m", 0, mirror))] {
        file.as_file().set_len(0).unwrap();
        let BlockAnswer::Refused(reason) = rig.ask(order, fds(file.path(), &plan)) else {
            panic!("clusters of 512 bytes were taken");
        };
        assert!(reason.contains("clusters of 512 bytes"), "{reason}");
    }
    write(&mut rig, 3, 7);
}

#[test]
fn a_raw_target_that_a_predecessor_wrote_is_not_taken_for_zeroes() {
    // An empty image: nothing of it is copied to a target that has nothing either.
    let disk = Disk::qcow2(CacheMode::Writeback, "/dev/shm");
    let file = NamedTempFile::new_in("/dev/shm").unwrap();
    file.as_file().write_all_at(&vec![0xEE; SIZE as usize], 0).unwrap();
    let plan = target(LayerFormat::Raw, Some(0), CacheMode::Writeback);
    let (sync, mode) = (WantedExtent::Full, CopyMode::Background);
    let mirror = JobKind::Mirror { target: plan.clone(), sync, granularity: 0, mode };
    let mut rig = Rig::inheriting(&disk, vec![job("m", 0, mirror)], fds(file.path(), &plan));
    rig.event_like(
        |event| matches!(event, BlockEvent::Job(report) if report.status == JobStatus::Ready),
    );
    let bytes = std::fs::read(file.path()).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0), "what was there before shows");
}

#[test]
fn a_bitmap_in_memory_takes_no_name_of_one_in_the_image() {
    let disk = Disk::qcow2(CacheMode::Writeback, "/dev/shm");
    let mut rig = Rig::new(&disk, 1);
    assert_eq!(rig.ask(bitmap("b", true), Vec::new()), BlockAnswer::Done);
    for persistent in [false, true] {
        let BlockAnswer::Refused(reason) = rig.ask(bitmap("b", persistent), Vec::new()) else {
            panic!("two of one name");
        };
        assert!(reason.contains("there is a bitmap 'b' already"), "{reason}");
    }
}
