//! Images that are refused, by name, and images that lie.

use super::rig::{KINDS, Rig, Steps, read};
use super::*;
use crate::qcow2::check::Repair;
use crate::storage::memory::MemoryFile;

fn open(bytes: Vec<u8>, options: Options) -> Result<Qcow2<MemoryFile>, OpenError> {
    let files = Files { file: MemoryFile::with(bytes), data: None, backing: None };
    finish(Qcow2::open(files, Box::new(journal::Nothing), options))
}

fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = Rig::new(&KINDS[1], 0).file.bytes();
    change(&mut bytes);
    open(bytes, Options::WRITE).expect_err("it is refused").to_string()
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_be_bytes());
}

#[test]
fn what_cannot_be_served_is_refused_by_its_name() {
    for (says, refusal) in [
        ("not in qcow2 format", refused(|bytes| bytes[0] = 0)),
        ("version 7", refused(|bytes| bytes[7] = 7)),
        ("encrypted", refused(|bytes| bytes[35] = 1)),
        ("no encryption header", refused(|bytes| bytes[35] = 2)),
        ("encryption method 3", refused(|bytes| bytes[35] = 3)),
        ("marked corrupt", refused(|bytes| put(bytes, 72, 2))),
        ("data in another file", refused(|bytes| put(bytes, 72, 4))),
        ("bit 9, bit 63", refused(|bytes| put(bytes, 72, 1 << 9 | 1 << 63))),
        ("2^22", refused(|bytes| bytes[23] = 22)),
        ("too small", refused(|bytes| put(bytes, 24, 1 << 50))),
        ("L1 table", refused(|bytes| put(bytes, 40, 0x1001))),
        ("refcount table", refused(|bytes| put(bytes, 48, 77))),
        ("lies in", refused(|bytes| put(bytes, 40, 4096))),
        ("2^7 bits", refused(|bytes| bytes[99] = 7)),
    ] {
        assert!(refusal.contains(says), "{refusal:?} does not say {says:?}");
    }
}

#[test]
fn an_unknown_feature_is_called_what_the_image_calls_it() {
    let refusal = refused(|bytes| {
        put(bytes, 72, 1 << 5);
        // The feature name table is the first extension: its fifth entry becomes bit 5's.
        let entry = 112 + 8 + 4 * 48;
        bytes[entry..entry + 9].copy_from_slice(b"\x00\x05warping");
        bytes[entry + 9..entry + 48].fill(0);
    });
    assert_eq!(refusal, "the image has features that are not known here: warping");
}

#[test]
fn a_table_entry_that_points_into_metadata_is_never_written_through() {
    let mut rig = Rig::new(&KINDS[1], 0);
    rig.write(0, &[1; 4096]);
    finish(rig.image().close()).unwrap();
    let mut bytes = rig.file.bytes();
    let number = |bytes: &[u8], at: usize| {
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) & 0x00ff_ffff_ffff_fe00
    };
    let l1_at = number(&bytes, 40) as usize;
    let l2_at = number(&bytes, l1_at) as usize;
    // The guest's first cluster is said to be the L1 table.
    put(&mut bytes, l2_at, l1_at as u64 | 1 << 63);
    let image = open(bytes, Options::WRITE).unwrap();
    let wrote = finish(image.write(0, Heap::copy_of(&[2; 4096]).into()));
    assert_eq!(wrote, Err(Failure::IO));
    assert!(image.damage().unwrap().contains("lies in its L1 table"), "{:?}", image.damage());
    let report = finish(image.check(Repair::Nothing));
    assert!(report.is_err() || report.unwrap().corruptions > 0);
}

#[test]
fn a_cluster_that_is_mapped_and_not_counted_is_lent_to_nobody() {
    let mut rig = Rig::new(&KINDS[0], 0);
    rig.write(0, &[1; 8192]);
    finish(rig.image().close()).unwrap();
    let mut bytes = rig.file.bytes();
    let sound = open(bytes.clone(), Options::WRITE).unwrap();
    assert_eq!(read(&sound, 0, 4096), [1; 4096]);
    let cluster = sound.cluster_size();
    let host = finish(sound.lendable(0)).expect("a cluster that is written in place");
    // Its count: 16 bits of the first block.
    let reftable_at = u64::from_be_bytes(bytes[48..56].try_into().unwrap()) as usize;
    let table = bytes[reftable_at..reftable_at + 8].try_into().unwrap();
    let count = u64::from_be_bytes(table) as usize + (host / cluster) as usize * 2;
    assert_eq!(bytes[count..count + 2], [0, 1]);
    bytes[count + 1] = 2;
    let shared = open(bytes.clone(), Options::WRITE).unwrap();
    assert_eq!(read(&shared, 0, 4096), [1; 4096]);
    assert_eq!((finish(shared.lendable(0)), shared.damage()), (None, None));
    bytes[count + 1] = 0;
    let image = open(bytes, Options::WRITE).unwrap();
    assert_eq!(read(&image, 0, 4096), [1; 4096]);
    assert_eq!(finish(image.lendable(0)), None);
    assert!(image.damage().unwrap().contains("is not counted"), "{:?}", image.damage());
    let wrote = finish(image.write(0, Heap::copy_of(&[2; 4096]).into()));
    assert_eq!(wrote, Err(Failure::IO));
}

#[test]
fn mutated_images_end_no_process() {
    let mut rig = Rig::new(&KINDS[0], 4);
    let mut steps = Steps::new(4);
    for _ in 0..6 {
        rig.run_together(&mut steps, 6);
    }
    finish(rig.image().close()).unwrap();
    let bytes = rig.file.bytes();
    let mut chance = Steps::new(99);
    let mut opened = 0;
    for _ in 0..1500 {
        let mut bytes = bytes.clone();
        for _ in 0..1 + chance.below(4) {
            // Metadata lies at the beginning.
            let at = chance.below(8192.min(bytes.len() as u64)) as usize;
            bytes[at] = chance.below(256) as u8;
        }
        if chance.below(8) == 0 {
            bytes.truncate(chance.below(bytes.len() as u64) as usize);
        }
        for options in [Options::READ, Options::WRITE] {
            let Ok(image) = open(bytes.clone(), options) else {
                continue;
            };
            opened += 1;
            let size = image.size().min(2 << 20);
            let heap = Heap::zeroes(size as usize);
            let _ = finish(image.read(0, heap.into()));
            let bytes = vec![5; size.min(100_000) as usize];
            let _ = finish(image.write(0, Heap::copy_of(&bytes).into()));
            let _ = finish(image.discard(0, size.min(65536)));
            let _ = finish(image.flush());
            let _ = finish(image.check(Repair::Nothing));
        }
    }
    assert!(opened > 500, "{opened} could be opened");
}

#[test]
fn a_leak_is_found_and_given_back() {
    let mut rig = Rig::new(&KINDS[1], 0);
    rig.write(0, &[1; 40_960]);
    finish(rig.image().close()).unwrap();
    let before = finish(rig.image().allocate(3)).unwrap();
    assert_eq!(before.count, 3);
    // The file goes on behind them.
    rig.write(81_920, &[2; 4096]);
    finish(rig.image().close()).unwrap();
    let files = Files { file: rig.file.clone(), data: None, backing: None };
    let image = finish(Qcow2::open(files, Box::new(journal::Nothing), Options::WRITE)).unwrap();
    let report = finish(image.check(Repair::Nothing)).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 3));
    let report = finish(image.check(Repair::Leaks)).unwrap();
    assert_eq!((report.leaks, report.leaks_fixed), (0, 3));
    rig.reopen();
    rig.close_and_check("repaired");
    assert_eq!(read(&rig.image(), 0, 512), [1; 512]);
}

/// What QEMU leaves of an image with lazy refcounts when it is killed.
#[test]
fn a_dirty_image_is_repaired_when_it_is_opened_for_writing() {
    for (number, kind) in KINDS.iter().enumerate().filter(|(_, kind)| kind.version > 2) {
        let mut rig = Rig::new(kind, 0);
        let mut steps = Steps::new(number as u64);
        rig.run_together(&mut steps, 8);
        finish(rig.image().shut()).unwrap();
        let mut bytes = rig.file.bytes();
        bytes[79] |= 1;
        // Every count of the first block is lost, but for those of the header and the tables.
        let table = u64::from_be_bytes(bytes[48..56].try_into().unwrap()) as usize;
        let block = u64::from_be_bytes(bytes[table..table + 8].try_into().unwrap()) as usize;
        bytes[block..block + kind.cluster as usize].fill(0);
        let image = rig.open_for_writing(bytes.clone());
        assert_eq!(image.header().incompatible & 1, 0, "{kind:?}");
        assert!(read(&image, 0, rig.model.len() as u64) == rig.model, "{kind:?}");
        finish(image.close()).unwrap();
        rig.check_bytes(image.file().bytes(), "repaired");
        // No block at all.
        bytes[table..table + 8].fill(0);
        let image = rig.open_for_writing(bytes);
        assert!(read(&image, 0, rig.model.len() as u64) == rig.model, "{kind:?}");
        finish(image.write(0, Heap::copy_of(&[9; 512]).into())).unwrap();
        finish(image.close()).unwrap();
        rig.check_bytes(image.file().bytes(), "rebuilt");
    }
}

#[test]
fn a_corrupt_image_is_read_and_not_written() {
    let mut bytes = Rig::new(&KINDS[1], 0).file.bytes();
    put(&mut bytes, 72, 2);
    assert!(open(bytes.clone(), Options::READ).is_ok());
    assert_eq!(open(bytes, Options::WRITE).unwrap_err(), OpenError::Corrupt);
}
