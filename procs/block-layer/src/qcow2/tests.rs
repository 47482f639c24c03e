//! Images in memory: many operations at once, crashes, deaths, and what no image may do.

mod bitmaps;
pub(crate) mod crash;
mod refusals;
mod rig;

use super::journal::Remembered;
use super::*;
use crate::memory::Heap;
use crate::task::finish;
use rig::{KINDS, Rig, Steps};

#[test]
fn operations_that_overlap_in_time_leave_what_each_of_them_wrote() {
    for (number, kind) in KINDS.iter().enumerate() {
        for seed in 0..12 {
            let mut rig = Rig::new(kind, seed);
            rig.file.interleave(3, seed * 77 + number as u64 + 1);
            let mut steps = Steps::new(seed);
            for _ in 0..12 {
                rig.run_together(&mut steps, 8);
                rig.verify(&format!("{kind:?}, {seed}"));
            }
            rig.close_and_check(&format!("{kind:?}, {seed}"));
        }
    }
}

#[test]
fn a_full_cache_commits_by_itself_and_stays_bounded() {
    let mut rig = Rig::new(&KINDS[0], 1);
    rig.options.cache = 0;
    rig.reopen();
    for cluster in 0..2048 {
        rig.write(cluster * 512, &[cluster as u8 | 1; 512]);
        let image = rig.image();
        let state = image.state.borrow();
        assert!(state.slices.count_dirty() < 48, "{} slices are dirty", state.slices.count_dirty());
    }
    rig.verify("many clusters");
    assert!(rig.image().state.borrow().begun > 0, "it has committed");
    rig.close_and_check("many clusters");
}

#[test]
fn a_refcount_table_that_is_too_small_moves_while_images_grow() {
    let mut rig = Rig::sized(&KINDS[0], 24 << 20);
    let before = rig.image().header().reftable_clusters;
    for at in (0..20 << 20).step_by(1 << 20) {
        rig.write(at, &vec![(at >> 20) as u8 + 1; 1 << 20]);
    }
    rig.verify("a grown image");
    assert!(rig.image().header().reftable_clusters > before);
    rig.close_and_check("a grown image");
    rig.reopen();
    rig.verify("a grown image, opened again");
}

#[test]
fn what_one_stops_using_is_used_again() {
    let mut rig = Rig::new(&KINDS[1], 3);
    for round in 0..20u8 {
        rig.write(0, &vec![round + 1; 256 << 10]);
        rig.apply(|image| Box::pin(image.discard(0, 256 << 10)));
        rig.model[..256 << 10].fill(0);
        rig.verify("discarded");
        finish(rig.image().close()).unwrap();
    }
    finish(rig.image().shut()).unwrap();
    let len = rig.file.bytes().len();
    assert!(len < 1 << 20, "the file has {len} bytes");
    rig.close_and_check("a disk that was emptied");
}

#[test]
fn a_disk_of_large_blocks_takes_every_write() {
    for kind in KINDS.iter().filter(|kind| kind.cluster >= 4096 && kind.version > 2) {
        let mut rig = Rig::new(kind, 7);
        rig.file.take_blocks(4096);
        rig.write(8192, &[1; 4096]);
        let image = rig.image();
        if kind.refcount_bits > 1 {
            finish(image.snapshot_create("s", 1, 2)).unwrap();
        }
        finish(image.bitmap_add("b", 65536, true)).unwrap();
        for length in [30, 700, 1000, 40] {
            let name = "n".repeat(length);
            let named = kind.backing.then_some((name.as_str(), "raw"));
            finish(image.name_backing(named)).unwrap();
            assert_eq!(image.header().backing.as_deref(), named.map(|(name, _)| name));
        }
        rig.write(65536, &[2; 8192]);
        finish(image.shut()).unwrap();
        rig.file.take_blocks(0);
        rig.close_and_check("written by blocks");
    }
}

#[test]
fn a_close_beside_an_operation_ends_and_a_later_one_does_the_rest() {
    let mut rig = Rig::new(&KINDS[1], 3);
    rig.write(0, &[1; 64 << 10]);
    finish(rig.image().flush()).unwrap();
    let image = rig.image();
    let operation = finish(image.begin());
    rig.apply(|image| Box::pin(image.discard(0, 64 << 10)));
    rig.model[..64 << 10].fill(0);
    finish(image.close()).unwrap();
    assert!(image.has_changed(), "clusters that somebody may look at");
    drop(operation);
    finish(image.close()).unwrap();
    assert!(!image.has_changed());
    rig.close_and_check("closed twice");
}

#[test]
fn what_lies_behind_the_room_stays() {
    let mut rig = Rig::new(&KINDS[0], 5);
    rig.write(512 << 10, &[1; 512]);
    finish(rig.image().shut()).unwrap();
    rig.reopen();
    let image = rig.image();
    // Its file was shorter when it was opened than what was written since.
    let used = image.state.borrow().fresh;
    image.state.borrow_mut().fresh = 512;
    finish(image.give_back_room());
    assert_eq!(rig.file.bytes().len() as u64, used);
    image.state.borrow_mut().fresh = used;
    rig.close_and_check("behind the room");
}

#[test]
fn room_is_made_ahead_and_given_back_when_the_image_is_left() {
    let mut rig = Rig::new(&KINDS[0], 5);
    rig.write(0, &[1; 512]);
    let ahead = rig.file.bytes().len();
    assert!(ahead > 1 << 20, "there are {ahead} bytes");
    rig.write(64 << 10, &[2; 8192]);
    assert_eq!(rig.file.bytes().len(), ahead, "it is used before there is more");
    finish(rig.image().shut()).unwrap();
    let used = rig.image().state.borrow().fresh as usize;
    assert!(used < ahead / 2);
    assert_eq!(rig.file.bytes().len(), used);
    rig.reopen();
    rig.verify("room that was given back");
    rig.write(128 << 10, &[3; 8192]);
    // Its successor finds room that nobody used, and uses it.
    rig.reopen();
    let left = rig.file.bytes().len();
    rig.write(192 << 10, &[4; 8192]);
    assert_eq!(rig.file.bytes().len(), left);
    rig.close_and_check("room that was left behind");
}

#[test]
fn a_file_without_room_to_spare_takes_what_fits() {
    let mut rig = Rig::new(&KINDS[0], 5);
    for after in 0..4 {
        rig.file.fail_once(crate::storage::memory::Call::Resize, after, Failure::NO_SPACE);
        rig.write(u64::from(after as u32) << 18, &[after as u8 + 1; 4096]);
    }
    rig.verify("no room ahead");
    rig.close_and_check("no room ahead");
}

#[test]
fn a_resized_disk_keeps_what_it_has_and_grows_by_zeroes() {
    let mut rig = Rig::sized(&KINDS[2], 1 << 20);
    rig.write(0, &vec![7; 1 << 20]);
    finish(rig.image().resize(3 << 20)).unwrap();
    rig.model.resize(3 << 20, 0);
    rig.verify("a larger disk");
    rig.write((3 << 20) - 512, &[9; 512]);
    finish(rig.image().resize(512 << 10)).unwrap();
    rig.model.truncate(512 << 10);
    rig.verify("a smaller disk");
    finish(rig.image().resize(1 << 20)).unwrap();
    rig.model.resize(1 << 20, 0);
    rig.verify("what was cut off does not come back");
    rig.close_and_check("a resized disk");
}

#[test]
fn a_disk_that_ended_within_a_cluster_grows_by_zeroes_too() {
    for kind in &KINDS {
        let mut rig = Rig::sized(kind, 1 << 20);
        rig.write(0, &vec![7; 1 << 20]);
        for (less, more) in [(700 << 10, 1 << 20), (512, 2 << 20), (66_048, 67_072)] {
            finish(rig.image().resize(less)).unwrap();
            rig.model.truncate(less as usize);
            let hides = kind.backing && kind.version < 3;
            let grown = finish(rig.image().resize(more));
            if hides && less < 700 << 10 {
                assert_eq!(
                    grown,
                    Err(Failure::UNSUPPORTED),
                    "{kind:?}: the backing file would show"
                );
                break;
            }
            grown.unwrap();
            rig.model.resize(more as usize, 0);
            rig.verify(&format!("{kind:?}, {less} to {more}"));
        }
        rig.close_and_check(&format!("{kind:?}"));
    }
}

#[test]
fn a_failed_call_fails_the_request_and_harms_nothing() {
    for failure in [Failure::IO, Failure::NO_SPACE] {
        for calls in 0..120 {
            let mut rig = Rig::new(&KINDS[1], 5);
            rig.write(0, &[1; 70_000]);
            finish(rig.image().flush()).unwrap();
            rig.file.fail_after(calls, failure);
            let attempt = finish(rig.image().write(30_000, Heap::copy_of(&[2; 200_000]).into()));
            let flushed = finish(rig.image().flush());
            rig.file.heal();
            if attempt.is_ok() {
                rig.model[30_000..230_000].fill(2);
                let _ = flushed;
                rig.verify("what was answered is there");
            } else {
                assert_eq!(attempt, Err(failure));
                rig.verify_outside(30_000..230_000);
            }
            // Whoever tries again succeeds.
            rig.write(30_000, &[3; 200_000]);
            rig.verify("written again");
            rig.close_and_check(&format!("{failure:?} after {calls}"));
        }
    }
}
