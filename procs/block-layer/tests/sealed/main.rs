//! The real process, sealed: every kind of image and request under the filter of the release.
//!
//! What the library's own tests show in one process is shown here across the seal: a call that the
//! profile lacks kills the process by SIGSYS, and the test names the signal.

mod process;
mod qcow2;

use std::os::fd::OwnedFd;

use bulkhead_protocol::block::BlockEvent;
use bulkhead_protocol::block_ring::{FLAG_FUA, Operation};
use bulkhead_protocol::spec::CacheMode;
use process::{Image, PAGE, Process};

const EVERY: [Operation; 6] = [
    Operation::Write,
    Operation::Read,
    Operation::Discard,
    Operation::WriteZeroes,
    Operation::WriteZeroesUnmap,
    Operation::Flush,
];

fn images() -> Vec<Image> {
    let mut images = vec![
        Image::new(CacheMode::Writeback, "/dev/shm"),
        Image::new(CacheMode::Unsafe, env!("CARGO_MANIFEST_DIR")),
        Image::new(CacheMode::Writeback, env!("CARGO_MANIFEST_DIR")),
        Image::new(CacheMode::None, env!("CARGO_MANIFEST_DIR")),
    ];
    images.extend(Image::on_a_loop_device(CacheMode::None));
    images.extend(Image::on_a_loop_device(CacheMode::Writeback));
    images
}

#[test]
fn every_request_on_every_kind_of_image_passes_the_filter() {
    for image in images() {
        let mut process = Process::start(&image, 2, 0);
        for round in 0..4 {
            for operation in EVERY {
                for tag in 0..32 {
                    let flags = if tag % 2 == 0 { FLAG_FUA } else { 0 };
                    process.submit(0, operation, tag, flags);
                    process.submit(1, operation, tag, flags);
                }
                for queue in [0, 1] {
                    for (tag, status) in process.take(queue, 32) {
                        assert_eq!(status, 0, "{image:?} {operation:?} {tag} in round {round}");
                    }
                }
            }
        }
        assert!(process.heartbeat(1) > 0);
        process.stop();
    }
}

#[test]
fn rings_come_and_go_in_the_sealed_process() {
    for image in images() {
        let mut process = Process::start(&image, 2, 0);
        for incarnation in 2..20 {
            for tag in 0..64 {
                process.submit(0, Operation::Write, tag, 0);
                process.submit(1, Operation::Read, tag, 0);
            }
            process.detach();
            assert_eq!(process.event(), BlockEvent::Detached { export: 0 }, "{image:?}");
            process.attach(incarnation);
            process.submit(0, Operation::Read, 1, 0);
            assert_eq!(process.take(0, 1), [(1, 0)], "{image:?}");
        }
        process.stop();
    }
}

#[test]
fn sixteen_full_queues_fit_the_heap_of_a_sealed_process() {
    let image = Image::new(CacheMode::None, env!("CARGO_MANIFEST_DIR"));
    let mut process = Process::start(&image, 16, 0);
    for tag in 0..256 {
        for queue in 0..16 {
            process.submit(queue, Operation::Write, tag, 0);
        }
    }
    for queue in 0..16 {
        assert!(process.take(queue, 256).iter().all(|(_, status)| *status == 0));
    }
    process.stop();
}

#[test]
fn delayed_requests_wait_and_a_detach_ends_their_wait() {
    let image = Image::new(CacheMode::Writeback, "/dev/shm");
    let mut process = Process::start(&image, 1, 3_600_000);
    process.submit(0, Operation::Write, 1, 0);
    assert_eq!(process.heartbeat(7), 0);
    process.detach();
    assert_eq!(process.event(), BlockEvent::Detached { export: 0 });
    process.stop();
}

#[test]
fn a_closed_channel_ends_the_process_with_0() {
    let image = Image::new(CacheMode::Writeback, "/dev/shm");
    Process::start(&image, 1, 0).hang_up();
}

#[test]
fn an_image_that_is_none_is_refused_and_the_process_lives_on() {
    let directory: OwnedFd = std::fs::File::open("/").unwrap().into();
    let (mut process, event) = Process::begin(directory, CacheMode::Writeback, 1, 0);
    assert!(matches!(event, BlockEvent::Refused { .. }), "{event:?}");
    assert_eq!(process.heartbeat(1), 0);
    process.stop();
}

#[test]
fn memory_of_an_idle_process_is_small() {
    let image = Image::new(CacheMode::Writeback, "/dev/shm");
    let mut process = Process::start(&image, 4, 0);
    process.submit(0, Operation::Write, 0, 0);
    process.take(0, 1);
    let pss = process.pss();
    assert!(pss < 4 << 20, "{pss} bytes for {} lanes of {PAGE}", 4);
    process.stop();
}
