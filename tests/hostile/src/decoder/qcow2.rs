//! A qcow2 image: opened, read, written, discarded, flushed and checked, whatever it says. What is read
//! after a write that succeeded is what was written.

use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::check::Repair;
use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{Files, Options, Qcow2};
use bulkhead_block_layer::storage::memory::MemoryFile;
use bulkhead_block_layer::task::finish;

use super::Verdict;
use crate::file::SparseFile;

/// Bytes that are written and read back.
const PIECE: u64 = 6000 / 512 * 512;

/// Most bytes that are read.
const MOST: u64 = 256 << 10;

/// The input is the file.
pub fn run(bytes: &[u8]) -> Verdict {
    attempt(bytes)
}

/// Everything that is done with images is done with this one. It is accepted if it could be written, and
/// nothing was found wrong with it.
pub(super) fn attempt(bytes: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    for options in [Options::READ, Options::WRITE] {
        let file = SparseFile::with(bytes);
        let files = Files { file, data: None, backing: None };
        let Ok(image) = finish(Qcow2::open(files, Box::new(Nothing), options)) else {
            continue;
        };
        let size = image.size().min(MOST);
        let read = finish(image.read(0, Heap::zeroes(size as usize).into()));
        let checked = finish(image.check(Repair::Nothing));
        let sound = checked.is_ok_and(|report| report.corruptions == 0);
        if sound && read.is_ok() && image.damage().is_none() {
            verdict = Verdict::Accepted;
        }
        let len = PIECE.min(size);
        if len > 0 && finish(image.write(0, Heap::copy_of(&vec![7; len as usize]).into())).is_ok() {
            let back = Heap::zeroes(len as usize);
            assert_eq!(finish(image.read(0, back.clone().into())), Ok(()), "what was written");
            assert!(back.to_vec().iter().all(|byte| *byte == 7), "other bytes came back");
        }
        let _discarded = finish(image.discard(0, size / 2 / 512 * 512 + 512.min(size)));
        let _flushed = finish(image.flush());
        change(&image);
        let _shut = finish(image.shut());
        let _checked = finish(image.check(Repair::Nothing));
    }
    repair(bytes);
    verdict
}

/// Snapshots and bitmaps, those that are there too.
fn change(image: &Qcow2<SparseFile>) {
    for bitmap in image.bitmaps().iter().take(4) {
        let _bits = finish(image.bitmap_bits(bitmap.name()));
        let _cleared = finish(image.bitmap_clear(bitmap.name()));
        let _gone = finish(image.bitmap_remove(bitmap.name()));
    }
    let _added = finish(image.bitmap_add("own", 65536, true));
    let _taken = finish(image.snapshot_create("own", 1, 2));
    let _gone = finish(image.bitmap_remove("own"));
    for snapshot in image.snapshots().iter().take(4) {
        let _applied = finish(image.snapshot_apply(&snapshot.id));
        let _gone = finish(image.snapshot_delete(&snapshot.id));
    }
    let _resized = finish(image.resize(96 << 10));
}

/// What was repaired, and is said to be right, is right.
fn repair(bytes: &[u8]) {
    let file = SparseFile::with(bytes);
    let files = Files { file: file.clone(), data: None, backing: None };
    let options = Options { repair: true, alone: true, ..Options::WRITE };
    let Ok(image) = finish(Qcow2::open(files, Box::new(Nothing), options)) else {
        return;
    };
    let Ok(report) = finish(image.check(Repair::All)) else {
        return;
    };
    if report.corruptions == 0 && report.leaks == 0 {
        let files = Files { file, data: None, backing: None };
        let again = finish(Qcow2::open(files, Box::new(Nothing), options)).expect("it was opened");
        let report = finish(again.check(Repair::Nothing)).expect("it was checked");
        assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.findings);
    }
}

/// Small images of several kinds, with some clusters.
pub fn samples() -> Vec<Vec<u8>> {
    let kinds = [
        Wanted { cluster_size: 512, ..Wanted::default() },
        Wanted { cluster_size: 512, version: 2, ..Wanted::default() },
        Wanted { cluster_size: 4096, refcount_bits: 1, ..Wanted::default() },
        Wanted { cluster_size: 16384, extended_l2: true, refcount_bits: 64, ..Wanted::default() },
    ];
    kinds.map(|kind| sample(&Wanted { size: 64 << 10, ..kind })).to_vec()
}

fn sample(wanted: &Wanted) -> Vec<u8> {
    let file = MemoryFile::default();
    finish(create(&file, wanted)).expect("an image");
    let files = Files { file: file.clone(), data: None, backing: None };
    let image = finish(Qcow2::open(files, Box::new(Nothing), Options::WRITE)).expect("an image");
    let cluster = wanted.cluster_size.min(16 << 10);
    let text: Vec<u8> = (0..cluster).map(|n| (n / 100) as u8).collect();
    finish(image.write(1024, Heap::copy_of(&[1; 3072]).into())).expect("a write");
    finish(image.write_compressed(2 * wanted.cluster_size, Heap::copy_of(&text).into()))
        .expect("a compressed write");
    finish(image.zero(40 << 10, 4096, true)).expect("zeroes");
    finish(image.close()).expect("a flush");
    file.bytes()
}
