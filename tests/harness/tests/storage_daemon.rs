//! The frontend against `qemu-storage-daemon`: what is written comes back, in every legal layout.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bulkhead_harness::frontend::{
    Completion, Cut, Frontend, Layout, Options, Queue, Request, Sharing,
};
use bulkhead_harness::storage_daemon::StorageDaemon;

const SIZE: u64 = 8 << 20;
const SOON: Duration = Duration::from_secs(20);

struct Disk {
    daemon: StorageDaemon,
    image: File,
    _folder: tempfile::TempDir,
}

fn disk(queues: u16) -> Option<Disk> {
    if !StorageDaemon::is_installed() {
        eprintln!("skipped: qemu-storage-daemon is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let image = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    image.set_len(SIZE).unwrap();
    let daemon = StorageDaemon::start(&path, &folder.path().join("socket"), queues).unwrap();
    Some(Disk { daemon, image, _folder: folder })
}

fn one(queue: &mut Queue, request: Request<'_>, layout: &Layout) -> Completion {
    let slot = queue.submit(request, layout).unwrap();
    queue.kick();
    let done = queue.wait(SOON).unwrap().expect("the backend keeps silent");
    assert_eq!(done.slot, slot);
    done
}

fn stamp(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn layouts() -> Vec<Layout> {
    let odd = Cut::At { out: vec![1, 15, 100], input: vec![3, 509, 1000] };
    vec![
        Layout::PLAIN,
        Layout::INDIRECT,
        Layout::MERGED,
        Layout { cut: odd, indirect: false },
        Layout::every(64),
    ]
}

#[test]
fn the_handshake_tells_the_size_of_the_disk() {
    let Some(disk) = disk(2) else { return };
    let (frontend, queues) = Frontend::connect(disk.daemon.socket(), 2, 4).unwrap();
    assert_eq!(frontend.capacity(), SIZE);
    assert_eq!(queues.len(), 2);
}

#[test]
fn writes_in_every_layout_reach_the_image_and_come_back() {
    let Some(disk) = disk(1) else { return };
    for event_idx in [true, false] {
        let options = Options { event_idx, ..Options::new(1, 4) };
        let (_frontend, mut queues) =
            Frontend::connect_with(disk.daemon.socket(), options).unwrap();
        for (at, layout) in layouts().iter().enumerate() {
            let sector = 64 * at as u64;
            let data = stamp(at as u8 + u8::from(event_idx), 4096);
            assert!(one(&mut queues[0], Request::Write { sector, data: &data }, layout).is_ok());
            let mut there = vec![0; 4096];
            disk.image.read_exact_at(&mut there, sector * 512).unwrap();
            assert!(there == data, "{layout:?}");
            let read = one(&mut queues[0], Request::Read { sector, len: 4096 }, layout);
            assert!(read.is_ok());
            assert_eq!(read.written, 4097);
            let mut back = vec![0; 4096];
            queues[0].read_data(read.slot, &mut back).unwrap();
            assert!(back == data, "{layout:?}");
        }
    }
}

#[test]
fn flush_discard_zeroes_and_get_id_are_answered() {
    let Some(disk) = disk(1) else { return };
    let (_frontend, mut queues) = Frontend::connect(disk.daemon.socket(), 1, 4).unwrap();
    let queue = &mut queues[0];
    let data = stamp(9, 4096);
    assert!(one(queue, Request::Write { sector: 8, data: &data }, &Layout::PLAIN).is_ok());
    assert!(one(queue, Request::Flush, &Layout::PLAIN).is_ok());
    let zeroes = Request::WriteZeroes { sector: 8, sectors: 4, unmap: false };
    assert!(one(queue, zeroes, &Layout::PLAIN).is_ok());
    let mut there = vec![0; 4096];
    disk.image.read_exact_at(&mut there, 4096).unwrap();
    assert!(there[..2048].iter().all(|byte| *byte == 0) && there[2048..] == data[2048..]);
    assert!(one(queue, Request::Discard { sector: 8, sectors: 8 }, &Layout::PLAIN).is_ok());
    assert!(one(queue, Request::GetId, &Layout::PLAIN).is_ok());
    let unknown = Request::Raw { kind: 77, sector: 0, out: &[], input: 0 };
    assert!(!one(queue, unknown, &Layout::PLAIN).is_ok());
}

#[test]
fn many_requests_on_two_queues_complete_once_each() {
    let Some(disk) = disk(2) else { return };
    let (_frontend, mut queues) = Frontend::connect(disk.daemon.socket(), 2, 16).unwrap();
    let (mut submitted, mut completed) = (0, 0);
    while completed < 4000 {
        for queue in &mut queues {
            while submitted < 4000 && queue.outstanding() < 16 {
                let sector = submitted % (SIZE / 512 - 8);
                queue.submit(Request::Read { sector, len: 4096 }, &Layout::INDIRECT).unwrap();
                submitted += 1;
            }
            queue.kick();
            while let Some(done) = queue.poll().unwrap() {
                assert!(done.is_ok());
                completed += 1;
            }
        }
        let waiting = queues.iter_mut().find(|queue| queue.outstanding() > 0);
        if let Some(queue) = waiting {
            completed += u64::from(queue.wait(SOON).unwrap().expect("silence").is_ok());
        }
    }
    assert_eq!((submitted, completed), (4000, 4000));
}

#[test]
fn memory_can_be_shared_in_one_table_in_many_regions_and_by_slots() {
    let Some(disk) = disk(2) else { return };
    for sharing in [Sharing::Table, Sharing::TableOfMany, Sharing::Slots] {
        let options = Options { sharing, ..Options::new(2, 4) };
        let (_frontend, mut queues) =
            Frontend::connect_with(disk.daemon.socket(), options).unwrap();
        for (at, queue) in queues.iter_mut().enumerate() {
            let (sector, data) = (8 * at as u64, stamp(at as u8, 4096));
            assert!(one(queue, Request::Write { sector, data: &data }, &Layout::INDIRECT).is_ok());
            let read = one(queue, Request::Read { sector, len: 4096 }, &Layout::INDIRECT);
            let mut back = vec![0; 4096];
            queue.read_data(read.slot, &mut back).unwrap();
            assert!(back == data, "{sharing:?}");
        }
    }
}

#[test]
fn a_stopped_queue_resumes_where_it_was() {
    let Some(disk) = disk(1) else { return };
    let (mut frontend, mut queues) = Frontend::connect(disk.daemon.socket(), 1, 4).unwrap();
    assert!(one(&mut queues[0], Request::Flush, &Layout::PLAIN).is_ok());
    let bases = frontend.stop().unwrap();
    assert_eq!(bases, [1]);
    let slot = queues[0].submit(Request::Flush, &Layout::PLAIN).unwrap();
    queues[0].kick();
    frontend.resume(&bases).unwrap();
    let done = queues[0].wait(SOON).unwrap().expect("silence");
    assert!(done.slot == slot && done.is_ok());
}

#[test]
fn a_killed_backend_is_noticed_and_its_successor_serves() {
    let Some(mut disk) = disk(1) else { return };
    let (mut frontend, mut queues) = Frontend::connect(disk.daemon.socket(), 1, 4).unwrap();
    assert!(!frontend.is_hung_up());
    disk.daemon.restart().unwrap();
    assert!(frontend.is_hung_up());
    let slot = queues[0].submit(Request::Read { sector: 0, len: 512 }, &Layout::PLAIN).unwrap();
    queues[0].kick();
    frontend.reconnect().unwrap();
    let done = queues[0].wait(SOON).unwrap().expect("silence");
    assert!(done.slot == slot && done.is_ok());
}
