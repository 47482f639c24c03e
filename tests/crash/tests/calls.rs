//! R4: each system call of a block layer fails once, in each job and under load. No byte is lost or another,
//! and the job says what it met or ends well.

use std::collections::BTreeMap;
use std::path::Path;

use bulkhead_crash::fault::{Came, Fault, fail_once};
use bulkhead_crash::graph::{Change, Changing};
use bulkhead_crash::image::Image;
use bulkhead_crash::killer::wait_for_progress;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

/// What a block layer asks the kernel for. Absent: waits for locks, the clock, and its own end, which
/// the kernel cannot refuse so.
const CALLS: [(&str, libc::c_long); 19] = [
    ("read", libc::SYS_read),
    ("write", libc::SYS_write),
    ("recvmsg", libc::SYS_recvmsg),
    ("sendmsg", libc::SYS_sendmsg),
    ("poll", libc::SYS_poll),
    ("ppoll", libc::SYS_ppoll),
    ("close", libc::SYS_close),
    ("mmap", libc::SYS_mmap),
    ("munmap", libc::SYS_munmap),
    ("brk", libc::SYS_brk),
    ("fcntl", libc::SYS_fcntl),
    ("fstat", libc::SYS_fstat),
    ("statx", libc::SYS_statx),
    ("fstatfs", libc::SYS_fstatfs),
    ("lseek", libc::SYS_lseek),
    ("preadv2", libc::SYS_preadv2),
    ("pwritev2", libc::SYS_pwritev2),
    ("fdatasync", libc::SYS_fdatasync),
    ("fallocate", libc::SYS_fallocate),
];

const ERRORS: [Errno; 4] = [Errno::ENOSPC, Errno::EIO, Errno::EMFILE, Errno::ENOMEM];

/// Errors that each call meets in each job with the other tests; `BULKHEAD_ERRORS=4`: each of them.
const FEW: usize = 1;

fn errors() -> usize {
    let given = std::env::var("BULKHEAD_ERRORS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(FEW).min(ERRORS.len())
}

fn play(change: Change) {
    let Some(image) = Image::qcow2(Path::new("/dev/shm"), IMAGE_BLOCKS) else {
        return eprintln!("skipped: there is no qemu-img");
    };
    let scene = Scene::begin(image, "");
    scene.forgive();
    let mut changing = Changing::of(&scene, Path::new("/dev/shm"));
    let mut came = BTreeMap::<String, u64>::new();
    for (number, (name, call)) in CALLS.into_iter().enumerate() {
        for turn in 0..errors() {
            let errno = ERRORS[(number + turn) % ERRORS.len()];
            let after = (number * 7 + turn * 5) as u64 % 12;
            let layer = scene.storage().wait_for_restart("block-layer", 0);
            let tracing = fail_once(layer.pid, Fault { call, after, errno });
            let made = changing.attempt(change);
            let what = tracing.join().expect("the tracer");
            if what == Came::Denied {
                return eprintln!("skipped: nobody may trace here");
            }
            let now = scene.storage().wait_for_restart("block-layer", 0);
            let died = now.restarts > layer.restarts;
            let ended = if made.is_ok() { "completed" } else { "failed" };
            let kind = format!("{what:?}, {ended}{}", if died { ", died" } else { "" });
            println!("{change:?}: {name} {after} {errno}: {kind} {made:?}");
            *came.entry(kind).or_default() += 1;
            // Whatever it has latched goes with it.
            now.signal(Signal::SIGKILL);
            scene.storage().wait_for_restart("block-layer", now.restarts + 1);
            changing.restore();
            wait_for_progress(scene.shared(), 20);
        }
    }
    println!("{change:?}: {came:?}, {} errors to guests", scene.errors());
    assert!(came.keys().any(|kind| kind.starts_with("Failed")), "no call ever failed");
    changing.end(scene);
}

#[test]
#[ignore = "minutes each: so many faults of its own put a block layer into quarantine"]
fn each_call_fails_once_during_a_commit() {
    play(Change::Commit);
}

#[test]
#[ignore = "minutes each: so many faults of its own put a block layer into quarantine"]
fn each_call_fails_once_during_a_stream() {
    play(Change::Stream);
}

#[test]
#[ignore = "minutes each: so many faults of its own put a block layer into quarantine"]
fn each_call_fails_once_during_a_mirror() {
    play(Change::Mirror);
}

#[test]
#[ignore = "minutes each: so many faults of its own put a block layer into quarantine"]
fn each_call_fails_once_during_a_backup() {
    play(Change::Backup);
}
