//! Bitmaps: exact while the image is open and after it was shut, too many bits after a death, and not
//! trusted after a crash.

use super::rig::{KINDS, Kind, Rig, Steps};
use super::*;
use crate::storage::memory::MemoryFile;

const GRANULE: usize = 4096;

/// Kinds that can have bitmaps.
fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.version > 2)
}

fn with_bitmap(kind: &Kind, seed: u64) -> Rig {
    let rig = Rig::new(kind, seed);
    finish(rig.image().bitmap_add("b", GRANULE as u64, true)).unwrap();
    finish(rig.image().bitmap_add("off", 65536, false)).unwrap();
    rig
}

/// Granules that must be dirty, by what was touched.
fn expected(rig: &Rig) -> Vec<bool> {
    rig.touched.chunks(GRANULE / 512).map(|sectors| sectors.contains(&true)).collect()
}

fn dirty<S: Storage>(image: &Qcow2<S>) -> Vec<bool> {
    let bitmap = finish(image.bitmap_bits("b")).unwrap();
    let bits = bitmap.bits().unwrap();
    (0..image.size()).step_by(GRANULE).map(|at| bits.is_dirty(at)).collect()
}

#[test]
fn what_is_written_is_dirty_and_nothing_else_is() {
    for kind in kinds() {
        for seed in 0..6 {
            let name = format!("{kind:?}, {seed}");
            let mut rig = with_bitmap(kind, seed);
            rig.file.interleave(3, seed + 1);
            let mut steps = Steps::new(seed);
            for _ in 0..4 {
                rig.run_together(&mut steps, 2);
                assert_eq!(dirty(&rig.image()), expected(&rig), "{name}");
            }
            rig.file.interleave(0, 1);
            finish(rig.image().shut()).unwrap();
            rig.check_bytes(rig.file.bytes(), &name);
            // One that is shut may be used on all the same.
            rig.run_together(&mut steps, 2);
            finish(rig.image().close()).unwrap();
            let left = rig.open_bytes(rig.file.bytes());
            assert!(!left.bitmap("b").unwrap().is_consistent(), "{name}: changed, not shut");
            finish(rig.image().shut()).unwrap();
            rig.journal = Remembered::default();
            rig.reopen();
            assert_eq!(dirty(&rig.image()), expected(&rig), "{name}: after it was shut");
            assert_eq!(rig.image().bitmap("off").unwrap().dirty_bytes(), 0);
            finish(rig.image().bitmap_clear("b")).unwrap();
            finish(rig.image().bitmap_enable("b", false)).unwrap();
            rig.run_together(&mut steps, 2);
            assert!(!dirty(&rig.image()).contains(&true), "{name}: disabled");
            finish(rig.image().bitmap_remove("off")).unwrap();
            finish(rig.image().shut()).unwrap();
            rig.close_and_check(&name);
        }
    }
}

#[test]
fn a_killed_process_loses_no_bit_and_its_successor_trusts_them() {
    for kind in kinds() {
        for seed in 0..10 {
            let name = format!("{kind:?}, {seed}");
            let mut rig = with_bitmap(kind, seed);
            let mut steps = Steps::new(seed);
            for round in 0..8 {
                rig.run_together(&mut steps, 2);
                if steps.below(2) == 0 {
                    finish(rig.image().flush()).unwrap();
                }
                match steps.below(6) {
                    0 => finish(rig.image().snapshot_create("s", 1, 2)).unwrap_or_default(),
                    1 => finish(rig.image().bitmap_add(&format!("b{round}"), 512, true)).unwrap(),
                    2 => {
                        // Killed while they are stored.
                        rig.file.fail_after(steps.below(30), Failure::IO);
                        let _ = finish(rig.image().bitmap_enable("off", round % 2 == 0));
                        rig.file.heal();
                    }
                    _ => {}
                }
                rig.reopen();
                rig.verify(&name);
                let (now, must) = (dirty(&rig.image()), expected(&rig));
                assert!(now.iter().zip(&must).all(|(now, must)| *now || !must), "{name}");
                assert_eq!(now, must, "{name}: few enough to be kept as they are");
            }
            finish(rig.image().shut()).unwrap();
            rig.check_bytes(rig.file.bytes(), &name);
        }
    }
}

#[test]
fn after_a_crash_a_bitmap_is_right_or_says_that_it_is_not() {
    for (number, kind) in kinds().enumerate() {
        for seed in 0..3 {
            let mut rig = with_bitmap(kind, seed);
            let mut steps = Steps::new(seed * 7 + number as u64);
            let mut shut = Vec::new();
            for round in 1..5 {
                rig.run_together(&mut steps, 3);
                finish(rig.image().shut()).unwrap();
                rig.file.mark(round);
                shut.push(expected(&rig));
                rig.reopen();
            }
            let log = rig.file.log().len() as u64;
            for state in 0..super::crash::states() {
                let entries = steps.below(log + 1) as usize;
                let odds = steps.below(5);
                let bytes = rig.file.crashed(entries, || steps.below(4) < odds);
                let name = format!("{kind:?}, {seed}, state {state}");
                rig.check_bytes(bytes.clone(), &name);
                super::crash::qemu_check(state, &bytes, &name);
                let image = rig.open_bytes(bytes);
                let Ok(bitmap) = image.bitmap("b") else {
                    continue;
                };
                if bitmap.is_consistent() {
                    let now = dirty(&image);
                    let clear = now.iter().all(|now| !now);
                    assert!(clear || shut.contains(&now), "{name}: bits that never were");
                }
            }
        }
    }
}

#[test]
fn a_bitmap_of_an_image_that_was_not_shut_can_only_be_removed() {
    let mut rig = with_bitmap(&KINDS[1], 1);
    rig.write(0, &[1; 512]);
    finish(rig.image().close()).unwrap();
    // The journal is gone with the host.
    rig.journal = Remembered::default();
    rig.reopen();
    let image = rig.image();
    let refused = finish(image.bitmap_clear("b")).unwrap_err();
    assert_eq!(refused, BitmapError::Inconsistent("b".to_owned()));
    assert!(!image.bitmap("b").unwrap().is_consistent());
    finish(image.bitmap_remove("b")).unwrap();
    finish(image.bitmap_remove("off")).unwrap();
    assert_eq!(image.bitmap("b").unwrap_err(), BitmapError::Missing("b".to_owned()));
    finish(image.shut()).unwrap();
    rig.close_and_check("without bitmaps");
}

#[test]
fn a_snapshot_is_not_gone_back_to_while_bitmaps_say_what_changed() {
    let mut rig = with_bitmap(&KINDS[0], 1);
    rig.write(0, &[1; 512]);
    finish(rig.image().snapshot_create("s", 1, 2)).unwrap();
    assert_eq!(finish(rig.image().snapshot_apply("s")), Err(SnapshotError::Bitmaps));
    let wrong = finish(rig.image().bitmap_add("c", 1000, true)).unwrap_err();
    assert_eq!(wrong, BitmapError::Granularity(1000));
    let old = Rig::new(&KINDS[5], 1);
    assert_eq!(finish(old.image().bitmap_add("b", 4096, true)), Err(BitmapError::Old));
}

#[test]
fn a_resized_disk_has_bitmaps_of_its_size() {
    let mut rig = with_bitmap(&KINDS[1], 1);
    rig.write((1 << 20) - 512, &[1; 512]);
    for size in [3 << 20, 512 << 10, 40 << 20] {
        finish(rig.image().resize(size)).unwrap();
        rig.reopen();
        let bitmap = rig.image().bitmap("b").unwrap();
        assert_eq!(bitmap.bits().unwrap().size(), size);
    }
    finish(rig.image().shut()).unwrap();
    rig.journal = Remembered::default();
    rig.model.resize(40 << 20, 0);
    rig.reopen();
    assert!(rig.image().bitmap("b").unwrap().is_consistent());
    let file: &MemoryFile = &rig.file;
    rig.check_bytes(file.bytes(), "resized");
}
