//! The sealed process on a qcow2 chain: every request passes the filter, and a successor has everything
//! that was answered.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::check::Repair;
use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{Files, Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::{
    BlockEvent, JOURNAL_BYTES, LayerFormat, LayerPlan, NodePlan, Qcow2Plan,
};
use bulkhead_protocol::block_ring::{FLAG_FUA, Operation};
use bulkhead_protocol::spec::{CacheMode, Part};
use tempfile::TempDir;

use super::process::{PAGE, Process};

const SIZE: u64 = 4 << 20;
const O_DIRECT: i32 = 0o40000;

/// A qcow2 image on a raw one whose bytes are all the same.
struct Chain {
    dir: TempDir,
    cache: CacheMode,
    journal: OwnedFd,
}

impl Chain {
    fn new(folder: &str, cache: CacheMode) -> Self {
        let dir = TempDir::new_in(folder).unwrap();
        std::fs::write(dir.path().join("base"), vec![0xBB; SIZE as usize]).unwrap();
        let image = File::create_new(dir.path().join("top")).unwrap();
        let wanted = Wanted {
            size: SIZE,
            backing: Some("base".into()),
            backing_format: Some("raw".into()),
            ..Wanted::default()
        };
        finish(create(&Plain::new(image.into(), true).unwrap(), &wanted)).unwrap();
        let journal = bulkhead_sys::memfd::create_sealed("journal", JOURNAL_BYTES).unwrap();
        Self { dir, cache, journal }
    }

    fn fd(&self, name: &str, write: bool) -> OwnedFd {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = if write && self.cache == CacheMode::None { O_DIRECT } else { 0 };
        let path = self.dir.path().join(name);
        File::options().read(true).write(write).custom_flags(flags).open(path).unwrap().into()
    }

    fn start(&self) -> Process {
        let plan = Qcow2Plan {
            cache: self.cache,
            discard: true,
            read_only: false,
            data_file: false,
            backing: vec![LayerPlan {
                format: LayerFormat::Raw,
                data_file: false,
                part: Part::default(),
            }],
        };
        let journal = self.journal.as_fd().try_clone_to_owned().unwrap();
        let fds = vec![self.fd("top", true), self.fd("base", false), journal];
        let (process, event) = Process::begin_with(NodePlan::Qcow2(plan), fds, 1, 0);
        let BlockEvent::Opened(disk) = event else {
            panic!("{event:?}");
        };
        assert_eq!(disk.size, SIZE);
        process
    }

    fn look(&self) -> (Vec<u8>, Vec<String>) {
        let plain = |path: &Path| Plain::new(File::open(path).unwrap().into(), true).unwrap();
        let storage = plain(&self.dir.path().join("base"));
        let backing = Some(Layer::raw(storage, SIZE));
        let file = plain(&self.dir.path().join("top"));
        let files = Files { file, data: None, backing };
        let image = finish(Qcow2::open(files, Box::new(Nothing), Options::READ)).unwrap();
        let heap = Heap::zeroes(SIZE as usize);
        finish(image.read(0, heap.clone().into())).unwrap();
        (heap.to_vec(), finish(image.check(Repair::Nothing)).unwrap().findings)
    }
}

fn chains() -> [Chain; 3] {
    let folder = env!("CARGO_MANIFEST_DIR");
    [
        Chain::new("/dev/shm", CacheMode::Writeback),
        Chain::new(folder, CacheMode::Writeback),
        Chain::new(folder, CacheMode::None),
    ]
}

fn all(process: &mut Process, operation: Operation, tags: std::ops::Range<u64>, flags: u8) {
    for tag in tags.clone() {
        process.submit(0, operation, tag, flags);
    }
    let count = (tags.end - tags.start) as usize;
    for (tag, status) in process.take(0, count) {
        assert_eq!(status, 0, "{operation:?} {tag}");
    }
}

#[test]
fn every_request_on_a_chain_passes_the_filter_and_the_image_is_whole_afterwards() {
    for chain in chains() {
        let mut process = chain.start();
        all(&mut process, Operation::Read, 0..100, 0);
        assert_eq!(process.bytes(0, 7), [0xBB; PAGE as usize]);
        for tag in 0..100 {
            process.fill(0, tag, tag as u8);
        }
        all(&mut process, Operation::Write, 0..100, 0);
        all(&mut process, Operation::Write, 100..120, FLAG_FUA);
        all(&mut process, Operation::WriteZeroes, 0..10, 0);
        all(&mut process, Operation::WriteZeroesUnmap, 10..20, 0);
        all(&mut process, Operation::Discard, 20..60, 0);
        all(&mut process, Operation::Flush, 0..3, 0);
        assert!(process.heartbeat(1) > 0);
        process.stop();
        let (disk, findings) = chain.look();
        assert!(findings.is_empty(), "{findings:#?}");
        let page = |number: u64| &disk[(number * PAGE) as usize..][..PAGE as usize];
        assert_eq!(page(15), [0; PAGE as usize]);
        assert_eq!(page(90), [90; PAGE as usize]);
        assert_eq!(page(200), [0xBB; PAGE as usize]);
    }
}

#[test]
fn what_was_answered_and_not_flushed_outlives_a_kill() {
    for chain in chains() {
        for round in 0..6u8 {
            let mut process = chain.start();
            if round > 0 {
                all(&mut process, Operation::Read, 0..250, 0);
                for tag in 0..250 {
                    let expected = vec![round ^ tag as u8; PAGE as usize];
                    assert!(process.bytes(0, tag) == expected, "page {tag} in round {round}");
                }
            }
            for tag in 0..250 {
                process.fill(0, tag, (round + 1) ^ tag as u8);
            }
            all(&mut process, Operation::Write, 0..250, 0);
            match round {
                5 => process.stop(),
                _ => process.kill(),
            }
        }
        let (disk, findings) = chain.look();
        assert!(findings.is_empty(), "{findings:#?}");
        assert_eq!(disk[9 * PAGE as usize], 6 ^ 9);
    }
}
