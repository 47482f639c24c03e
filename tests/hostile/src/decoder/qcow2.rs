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

/// Bytes that are written and read back.
const PIECE: u64 = 6000 / 512 * 512;

/// Most bytes that are read.
const MOST: u64 = 256 << 10;

/// The input is the file.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    for options in [Options::READ, Options::WRITE] {
        let file = MemoryFile::with(bytes.to_vec());
        let files = Files { file, data: None, backing: None };
        let Ok(image) = finish(Qcow2::open(files, Box::new(Nothing), options)) else {
            continue;
        };
        verdict = Verdict::Accepted;
        let size = image.size().min(MOST);
        let _read = finish(image.read(0, Heap::zeroes(size as usize).into()));
        let len = PIECE.min(size);
        if len > 0 && finish(image.write(0, Heap::copy_of(&vec![7; len as usize]).into())).is_ok() {
            let back = Heap::zeroes(len as usize);
            assert_eq!(finish(image.read(0, back.clone().into())), Ok(()), "what was written");
            assert!(back.to_vec().iter().all(|byte| *byte == 7), "other bytes came back");
        }
        let _discarded = finish(image.discard(0, size / 2 / 512 * 512 + 512.min(size)));
        let _flushed = finish(image.flush());
        let _checked = finish(image.check(Repair::Nothing));
    }
    verdict
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
