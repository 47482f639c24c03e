//! Snapshots, bitmaps and options of images, changed by one command and the other in turn.

use tempfile::TempDir;

use super::program::{must, ours};
use super::run::{facts, patch, qemu, same_disk, theirs};

/// Taken, gone back to and removed by one and the other in turn, checked by both each time.
#[test]
fn snapshots_of_one_are_those_of_the_other() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    for options in ["cluster_size=512", "extended_l2=on", "compat=0.10", "refcount_bits=8"] {
        let create = ["create", "-q", "-f", "qcow2", "-o", options, "disk.q", "3M"];
        must(&create, dir);
        if qemu(&["check", "-q", "disk.q"], dir).is_none() {
            eprintln!("skipped: there is no qemu-img");
            return;
        }
        for round in 0..2 {
            let one = |arguments: &[&str]| match round {
                0 => must(arguments, dir),
                _ => theirs(arguments, dir).expect("qemu-img"),
            };
            let other = |arguments: &[&str]| match round {
                0 => theirs(arguments, dir).expect("qemu-img"),
                _ => must(arguments, dir),
            };
            let check = || {
                theirs(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
                must(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
            };
            let keep = |name: &str| {
                theirs(&["convert", "-f", "qcow2", "-O", "raw", "disk.q", name], dir);
            };
            let same = |name: &str| {
                same_disk(&["-f", "qcow2", "-F", "raw", "disk.q", name], dir);
            };
            patch(dir, "disk.q", "100k", "1");
            keep("first.raw");
            one(&["snapshot", "-c", "first", "disk.q"]);
            check();
            patch(dir, "disk.q", "200k", "2");
            keep("second.raw");
            other(&["snapshot", "-c", "second", "disk.q"]);
            check();
            patch(dir, "disk.q", "2500k", "3");
            one(&["snapshot", "-c", "third", "disk.q"]);
            other(&["snapshot", "-a", "first", "disk.q"]);
            check();
            same("first.raw");
            patch(dir, "disk.q", "0", "4");
            one(&["snapshot", "-a", "second", "disk.q"]);
            check();
            same("second.raw");
            let list = [must(&["snapshot", "-l", "disk.q"], dir)];
            assert_eq!(list, [theirs(&["snapshot", "-l", "disk.q"], dir).expect("qemu-img")]);
            let lines = |text: String| text.lines().count();
            assert_eq!(lines(list.concat()), 5, "{list:?}");
            let facts = |text: &str| facts(text)["snapshots"].clone();
            let info = ["info", "-f", "qcow2", "--output=json", "disk.q"];
            assert_eq!(facts(&must(&info, dir)), facts(&theirs(&info, dir).expect("qemu-img")));
            other(&["snapshot", "-d", "second", "disk.q"]);
            check();
            one(&["snapshot", "-d", "third", "disk.q"]);
            check();
            same("second.raw");
            one(&["snapshot", "-a", "first", "disk.q"]);
            other(&["snapshot", "-d", "first", "disk.q"]);
            check();
            same("first.raw");
        }
    }
    let missing = ours(&["snapshot", "-a", "nothing", "disk.q"], dir);
    let complaint = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(1));
    assert!(complaint.contains("there is no snapshot 'nothing'"), "{complaint}");
}

/// `qemu-io` records what it writes in the bitmaps that are enabled; so do we. Each finds the other's.
#[test]
fn bitmaps_of_one_are_those_of_the_other() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    must(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "disk.q", "9M"], dir);
    if qemu(&["check", "-q", "disk.q"], dir).is_none() {
        eprintln!("skipped: there is no qemu-img");
        return;
    }
    let check = || {
        theirs(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        must(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        let info = ["info", "-f", "qcow2", "--output=json", "disk.q"];
        let bitmaps = |text: &str| facts(text)["format-specific"]["data"]["bitmaps"].clone();
        let theirs = bitmaps(&theirs(&info, dir).expect("qemu-img"));
        assert_eq!(bitmaps(&must(&info, dir)), theirs);
        theirs.as_array().map_or(0, Vec::len)
    };
    must(&["bitmap", "--add", "disk.q", "ours"], dir);
    theirs(&["bitmap", "--add", "-g", "512", "disk.q", "theirs"], dir);
    must(&["bitmap", "--add", "--disable", "-g", "1M", "disk.q", "off"], dir);
    assert_eq!(check(), 3);
    patch(dir, "disk.q", "100k", "1");
    patch(dir, "disk.q", "5M", "2");
    assert_eq!(check(), 3);
    theirs(&["bitmap", "--merge", "theirs", "disk.q", "off"], dir);
    must(&["bitmap", "--add", "-g", "8k", "--merge", "off", "--disable", "disk.q", "all"], dir);
    theirs(&["bitmap", "--enable", "disk.q", "all"], dir);
    must(&["bitmap", "--disable", "disk.q", "ours"], dir);
    must(&["bitmap", "--clear", "disk.q", "theirs"], dir);
    assert_eq!(check(), 4);
    theirs(&["bitmap", "--remove", "disk.q", "ours"], dir);
    must(&["bitmap", "--remove", "disk.q", "theirs"], dir);
    must(&["resize", "-q", "-f", "qcow2", "disk.q", "+100k"], dir);
    theirs(&["resize", "-q", "-f", "qcow2", "disk.q", "+100k"], dir);
    assert_eq!(check(), 2);
    must(&["create", "-q", "-f", "qcow2", "other.q", "9641984"], dir);
    must(&["bitmap", "--add", "other.q", "copy"], dir);
    must(&["bitmap", "--merge", "all", "-b", "disk.q", "other.q", "copy"], dir);
    theirs(&["bitmap", "--merge", "all", "-b", "disk.q", "other.q", "copy"], dir);
    must(&["create", "-q", "-f", "qcow2", "small.q", "1M"], dir);
    must(&["bitmap", "--add", "small.q", "b"], dir);
    for (arguments, says) in [
        (&["bitmap", "--add", "disk.q", "all"][..], "already"),
        (&["bitmap", "--clear", "disk.q", "none"], "there is no bitmap 'none'"),
        (&["bitmap", "--add", "-g", "1000", "disk.q", "x"], "power of two"),
        (&["bitmap", "disk.q", "all"], "say what to do"),
        (&["bitmap", "--merge", "b", "-b", "small.q", "disk.q", "all"], "another size"),
    ] {
        let output = ours(arguments, dir);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
    must(&["bitmap", "--remove", "disk.q", "all"], dir);
    must(&["bitmap", "--remove", "disk.q", "off"], dir);
    assert_eq!(check(), 0);
}

/// Versions, counts and flags are changed, and the disk and its snapshots stay what they are.
#[test]
fn an_amended_image_is_the_same_disk() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    must(&["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "disk.q", "3M"], dir);
    if qemu(&["check", "-q", "disk.q"], dir).is_none() {
        eprintln!("skipped: there is no qemu-img");
        return;
    }
    patch(dir, "disk.q", "100k", "1");
    must(&["snapshot", "-c", "old", "disk.q"], dir);
    patch(dir, "disk.q", "300k", "2");
    theirs(&["convert", "-f", "qcow2", "-O", "raw", "disk.q", "disk.raw"], dir);
    let amend = |options: &str| {
        must(&["amend", "-f", "qcow2", "-o", options, "disk.q"], dir);
        theirs(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        must(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        same_disk(&["-f", "qcow2", "-F", "raw", "disk.q", "disk.raw"], dir);
        let info = theirs(&["info", "-f", "qcow2", "--output=json", "disk.q"], dir);
        facts(&info.expect("qemu-img"))["format-specific"]["data"].clone()
    };
    assert_eq!(amend("compat=1.1")["compat"], "1.1");
    for bits in [1, 2, 64, 8, 32, 16] {
        if bits == 1 {
            let refused = ours(&["amend", "-f", "qcow2", "-o", "refcount_bits=1", "disk.q"], dir);
            let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(complaint.contains("more often"), "{complaint}");
            continue;
        }
        assert_eq!(amend(&format!("refcount_bits={bits}"))["refcount-bits"], bits);
    }
    assert_eq!(amend("lazy_refcounts=on")["lazy-refcounts"], true);
    theirs(&["snapshot", "-a", "old", "disk.q"], dir);
    theirs(&["convert", "-f", "qcow2", "-O", "raw", "disk.q", "disk.raw"], dir);
    let refused = ours(&["amend", "-f", "qcow2", "-o", "compat=0.10", "disk.q"], dir);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("snapshots"));
    must(&["snapshot", "-d", "old", "disk.q"], dir);
    let zero = ["-c", "write -z 150k 80k", "disk.q"];
    let done = std::process::Command::new("qemu-io").args(zero).current_dir(dir).output();
    assert!(done.expect("qemu-io runs").status.success());
    theirs(&["convert", "-f", "qcow2", "-O", "raw", "disk.q", "disk.raw"], dir);
    assert_eq!(amend("compat=0.10")["compat"], "0.10");
    let refused = ours(&["amend", "-f", "qcow2", "-o", "cluster_size=4k", "disk.q"], dir);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("convert"));
}
