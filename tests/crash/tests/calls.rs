//! R4: each system call of a block layer fails once, in each job and under load. No byte is lost or another,
//! nothing hangs, and whoever asked for the job learns how it ended.
//!
//! With the other tests each call fails in some job, and each job meets a few. All of them in each job, with
//! every error:
//!
//! ```text
//! BULKHEAD_ERRORS=4 cargo test -p bulkhead-crash --test calls -- --nocapture --test-threads 1
//! ```
//!
//! `BULKHEAD_CALLS=fstat,mmap`: these calls alone.

use std::collections::BTreeMap;
use std::path::Path;

use bulkhead_crash::fault::{Came, Fault, fail_once};
use bulkhead_crash::graph::{Change, Changing};
use bulkhead_crash::image::Image;
use bulkhead_crash::killer::wait_for_progress;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};
use bulkhead_crash::witness::Witness;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

/// What a block layer asks the kernel for: every call of its profile but [`ABSENT`].
const CALLS: [(&str, libc::c_long); 24] = [
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
    ("ioctl", libc::SYS_ioctl),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("ftruncate", libc::SYS_ftruncate),
    ("io_submit", libc::SYS_io_submit),
    ("io_getevents", libc::SYS_io_getevents),
];

/// Waits for locks, the clock, the end, and keys of TLS sessions: the kernel cannot refuse them so.
const ABSENT: [&str; 6] =
    ["futex", "clock_gettime", "sched_yield", "restart_syscall", "exit_group", "getrandom"];

const ERRORS: [Errno; 4] = [Errno::ENOSPC, Errno::EIO, Errno::EMFILE, Errno::ENOMEM];

/// In which each of them fails.
const JOBS: [Change; 8] = [
    Change::Snapshot,
    Change::Stream,
    Change::Commit,
    Change::CommitBelow,
    Change::Mirror,
    Change::MirrorBlocking,
    Change::MirrorRaw,
    Change::Backup,
];

/// Times that a fault is tried, earlier and earlier.
const TRIES: usize = 6;

/// Calls that fail in one scene, each with the errors that it is to meet.
const CALLS_PER_SCENE: usize = 3;

/// Errors that each call meets in each job; `None`: each call fails in one job, once.
fn errors() -> Option<usize> {
    let given = std::env::var("BULKHEAD_ERRORS").ok()?;
    Some(given.parse::<usize>().expect("BULKHEAD_ERRORS is a number").clamp(1, ERRORS.len()))
}

/// What fails in a job, in the order in which it does.
fn faults(change: Change) -> Vec<(&'static str, Fault)> {
    let job = JOBS.iter().position(|job| *job == change).expect("one of them");
    let mut faults = Vec::new();
    let only = std::env::var("BULKHEAD_CALLS").ok();
    let wanted =
        |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name));
    for (number, (name, call)) in CALLS.into_iter().enumerate() {
        if !wanted(name) || (errors().is_none() && number % JOBS.len() != job) {
            continue;
        }
        for turn in 0..errors().unwrap_or(1) {
            let errno = ERRORS[(number / JOBS.len() + job + turn) % ERRORS.len()];
            // Some at once, some in mid-job.
            let after = (number * 7 + job * 3 + turn * 5) as u64 % 17;
            faults.push((name, Fault { call, after, errno }));
        }
    }
    faults
}

/// How the faults of a job ended, and how often so.
type Tally = BTreeMap<String, u64>;

/// One fault while the change is made, earlier if so many calls are not made; `None`: nobody may trace here.
fn meet(scene: &Scene, changing: &mut Changing, change: Change, fault: Fault) -> Option<String> {
    let mut after = fault.after;
    for _ in 0..TRIES {
        let (came, ended) = meet_once(scene, changing, change, Fault { after, ..fault })?;
        match came {
            Came::Failed => return Some(ended),
            Came::Spared if after == 0 => return Some(ended),
            Came::Spared => after /= 4,
            // A traced process is slow, and may miss a heartbeat on a loaded machine.
            Came::Gone | Came::Denied => {}
        }
    }
    Some("Gone".to_owned())
}

fn meet_once(
    scene: &Scene,
    changing: &mut Changing,
    change: Change,
    fault: Fault,
) -> Option<(Came, String)> {
    let layer = scene.storage().wait_for_restart("block-layer", 0);
    let tracing = fail_once(layer.pid, fault);
    let made = changing.attempt(change);
    let came = tracing.end();
    if came == Came::Denied {
        return None;
    }
    let now = scene.storage().wait_for_restart("block-layer", 0);
    let died = if now.restarts > layer.restarts { ", died" } else { "" };
    let ended = match &made {
        Ok(()) => "completed",
        Err(complaint) => {
            assert!(!complaint.is_empty(), "a job failed and nobody knows why");
            assert!(!complaint.contains("is gone"), "a job went away silently");
            "failed"
        }
    };
    println!("{change:?}: {fault:?}: {came:?}{died}: {made:?}");
    // Whatever it has latched goes with it.
    now.signal(Signal::SIGKILL);
    scene.storage().wait_for_restart("block-layer", now.restarts + 1);
    changing.restore();
    wait_for_progress(scene.shared(), 20);
    Some((came, format!("{came:?}{died}, {ended}")))
}

/// A few faults in one scene, which is judged in the end. `false`: they cannot be made here.
fn play(change: Change, faults: &[(&str, Fault)], tally: &mut Tally) -> bool {
    let Some(image) = Image::qcow2(Path::new("/dev/shm"), IMAGE_BLOCKS) else {
        eprintln!("skipped: there is no qemu-img");
        return false;
    };
    let scene = Scene::begin(image, "");
    scene.forgive();
    let witness = Witness::of(scene.storage().name());
    let mut changing = Changing::of(&scene, Path::new("/dev/shm"));
    for (name, fault) in faults {
        println!("{name}:");
        let Some(kind) = meet(&scene, &mut changing, change, *fault) else {
            eprintln!("skipped: nobody may trace here");
            return false;
        };
        *tally.entry(kind).or_default() += 1;
    }
    *tally.entry("errors to guests".to_owned()).or_default() += scene.errors();
    changing.end(scene);
    for event in witness.end() {
        assert!(
            !event.contains("\"security\":true"),
            "an error took it to a forbidden call: {event}"
        );
        assert!(!event.contains("\"quarantined\""), "it was given up: {event}");
    }
    true
}

fn each_call_fails(change: Change) {
    let mut tally = Tally::new();
    for faults in faults(change).chunks(CALLS_PER_SCENE * errors().unwrap_or(1)) {
        if !play(change, faults, &mut tally) {
            return;
        }
    }
    println!("{change:?}: {tally:?}");
}

#[test]
fn every_call_of_the_profile_fails_or_is_absent_for_a_reason() {
    let manifest = bulkhead_manifest::profile("block-layer").expect("its profile");
    let mut named: Vec<&str> = CALLS.iter().map(|(name, _)| *name).chain(ABSENT).collect();
    let mut allowed: Vec<&str> = manifest.syscall.iter().map(|call| call.name.as_str()).collect();
    named.sort_unstable();
    allowed.sort_unstable();
    assert_eq!(named, allowed);
}

#[test]
fn calls_fail_during_a_snapshot() {
    each_call_fails(Change::Snapshot);
}

#[test]
fn calls_fail_during_a_stream() {
    each_call_fails(Change::Stream);
}

#[test]
fn calls_fail_during_an_active_commit() {
    each_call_fails(Change::Commit);
}

#[test]
fn calls_fail_during_the_commit_of_a_layer_in_between() {
    each_call_fails(Change::CommitBelow);
}

#[test]
fn calls_fail_during_a_mirror() {
    each_call_fails(Change::Mirror);
}

#[test]
fn calls_fail_during_a_mirror_that_writes_reach_at_once() {
    each_call_fails(Change::MirrorBlocking);
}

#[test]
fn calls_fail_during_a_mirror_into_a_raw_file() {
    each_call_fails(Change::MirrorRaw);
}

#[test]
fn calls_fail_during_a_backup() {
    each_call_fails(Change::Backup);
}
