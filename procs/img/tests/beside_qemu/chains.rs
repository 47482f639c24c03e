//! Chains: rebased, committed, and copied in parts.

use std::path::Path;

use tempfile::TempDir;

use super::program::{must, ours};
use super::run::{patch, qemu, same_disk, theirs};

/// `a` and `b` are two disks, `top` lies over `a`; the disk of `top` is kept in `disk.raw`.
fn chain(dir: &Path, options: &str) -> bool {
    for (name, size) in [("a.q", "3M"), ("b.q", "5M")] {
        must(&["create", "-q", "-f", "qcow2", name, size], dir);
    }
    if qemu(&["check", "-q", "a.q"], dir).is_none() {
        eprintln!("skipped: there is no qemu-img");
        return false;
    }
    patch(dir, "a.q", "100k", "1");
    patch(dir, "a.q", "2M", "2");
    patch(dir, "b.q", "300k", "3");
    patch(dir, "b.q", "4M", "4");
    let create = ["create", "-q", "-f", "qcow2", "-o", options, "-b", "a.q", "-F", "qcow2"];
    must(&[&create[..], &["top.q", "6M"]].concat(), dir);
    patch(dir, "top.q", "1M", "5");
    theirs(&["convert", "-f", "qcow2", "-O", "raw", "top.q", "disk.raw"], dir);
    true
}

const OPTIONS: [&str; 4] =
    ["cluster_size=64k", "cluster_size=512", "extended_l2=on", "compat=0.10,cluster_size=4k"];

#[test]
fn a_rebased_image_reads_as_before() {
    for options in OPTIONS {
        let dir = TempDir::new().expect("a folder");
        let dir = dir.path();
        if !chain(dir, options) {
            return;
        }
        let rebase = ["rebase", "-f", "qcow2", "--backing=qcow2:a.q"];
        must(&[&rebase[..], &["-b", "b.q", "-F", "qcow2", "top.q"]].concat(), dir);
        theirs(&["check", "-q", "top.q"], dir);
        theirs(&["compare", "-f", "qcow2", "-F", "raw", "top.q", "disk.raw"], dir);
        let rebase = ["rebase", "-f", "qcow2", "--backing=qcow2:b.q", "-b", "", "top.q"];
        must(&rebase, dir);
        same_disk(&["-f", "qcow2", "-F", "raw", "top.q", "disk.raw"], dir);
        must(&["check", "-q", "-f", "qcow2", "top.q"], dir);
        // Only the name.
        must(&["rebase", "-u", "-f", "qcow2", "-b", "b.q", "-F", "qcow2", "top.q"], dir);
        let info = theirs(&["info", "top.q"], dir).expect("qemu-img");
        assert!(info.contains("backing file: b.q"), "{info}");
        theirs(&["check", "-q", "top.q"], dir);
    }
}

#[test]
fn a_committed_image_is_in_its_backing_file() {
    for options in OPTIONS {
        let dir = TempDir::new().expect("a folder");
        let dir = dir.path();
        if !chain(dir, options) {
            return;
        }
        let said = must(&["commit", "-f", "qcow2", "--backing=qcow2:a.q", "-d", "top.q"], dir);
        assert_eq!(said, "Image committed.\n");
        theirs(&["compare", "-f", "qcow2", "-F", "raw", "a.q", "disk.raw"], dir);
        patch(dir, "top.q", "5M", "6");
        theirs(&["convert", "-f", "qcow2", "-O", "raw", "top.q", "disk.raw"], dir);
        must(&["commit", "-q", "-f", "qcow2", "--backing=qcow2:a.q", "top.q"], dir);
        for image in ["a.q", "top.q"] {
            theirs(&["compare", "-f", "qcow2", "-F", "raw", image, "disk.raw"], dir);
            theirs(&["check", "-q", image], dir);
        }
        let map = must(&["map", "-f", "qcow2", "--backing=qcow2:a.q", "top.q"], dir);
        assert!(!map.contains("top.q"), "it is empty: {map}");
        // Over two layers, into the lowest.
        must(&["create", "-q", "-f", "qcow2", "-b", "top.q", "-F", "qcow2", "third.q"], dir);
        patch(dir, "third.q", "0", "7");
        theirs(&["convert", "-f", "qcow2", "-O", "raw", "third.q", "disk.raw"], dir);
        let files = ["--backing=qcow2:top.q", "--backing=qcow2:a.q", "-b", "a.q", "third.q"];
        must(&[&["commit", "-q", "-f", "qcow2"][..], &files].concat(), dir);
        theirs(&["compare", "-f", "qcow2", "-F", "raw", "a.q", "disk.raw"], dir);
        theirs(&["check", "-q", "a.q"], dir);
    }
}

/// `top` over `mid`, which is shorter, over `base`, in each of these folders; the disk is kept in `disk.raw`.
fn short_middle(dirs: [&Path; 2]) -> bool {
    for dir in dirs {
        must(&["create", "-q", "-f", "qcow2", "base.q", "4M"], dir);
        if qemu(&["check", "-q", "base.q"], dir).is_none() {
            eprintln!("skipped: there is no qemu-img");
            return false;
        }
        for (at, byte) in [("100k", "1"), ("1500k", "2"), ("3M", "3")] {
            patch(dir, "base.q", at, byte);
        }
        let overlay = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
        must(&[&overlay[..], &["base.q", "mid.q", "1600k"]].concat(), dir);
        patch(dir, "mid.q", "500k", "4");
        must(&[&overlay[..], &["mid.q", "top.q", "4M"]].concat(), dir);
        patch(dir, "top.q", "2M", "5");
        theirs(&["convert", "-f", "qcow2", "-O", "raw", "top.q", "disk.raw"], dir);
    }
    true
}

#[test]
fn what_a_shorter_layer_hides_stays_hidden_when_a_longer_one_is_committed_over_it() {
    for (into, depth) in [("mid.q", 1), ("base.q", 2)] {
        let (here, there) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        let (here, there) = (here.path(), there.path());
        if !short_middle([here, there]) {
            return;
        }
        let files = ["--backing=qcow2:mid.q", "--backing=qcow2:base.q"];
        let base = if depth == 1 { &[][..] } else { &["-b", "base.q"] };
        let commit = [&["commit", "-q", "-f", "qcow2"][..], base, &files, &["top.q"]].concat();
        must(&commit, here);
        theirs(&[&["commit", "-q", "-f", "qcow2"][..], base, &["top.q"]].concat(), there);
        let other = there.join(into).display().to_string();
        theirs(&["compare", "-f", "qcow2", "-F", "qcow2", into, &other], here);
        theirs(&["compare", "-f", "qcow2", "-F", "raw", into, "disk.raw"], here);
        theirs(&["compare", "-f", "qcow2", "-F", "raw", "top.q", "disk.raw"], here);
        theirs(&["check", "-q", into], here);
    }
}

#[test]
fn a_part_of_a_disk_is_what_qemu_copies_too() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    if !chain(dir, OPTIONS[0]) {
        return;
    }
    // With both, QEMU counts from the start of the disk; dd and we from where it was skipped to.
    for part in ["skip=90", "count=2000"] {
        let operands = ["bs=1k", part, "if=a.q"];
        must(&[&["dd", "-f", "qcow2", "-O", "qcow2", "of=ours.q"][..], &operands].concat(), dir);
        let theirs_dd = ["dd", "-f", "qcow2", "-O", "qcow2", "of=theirs.q"];
        theirs(&[&theirs_dd[..], &operands].concat(), dir);
        same_disk(&["-f", "qcow2", "-F", "qcow2", "ours.q", "theirs.q"], dir);
    }
    let both = ["dd", "-f", "qcow2", "bs=1k", "skip=90", "count=1000", "if=a.q", "of=part.raw"];
    must(&both, dir);
    assert_eq!(std::fs::metadata(dir.join("part.raw")).expect("a part").len(), 1_024_000);
    let wrong = ours(&["dd", "-f", "qcow2", "if=a.q", "to=b.q"], dir);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("'to=b.q' is none of"));
}

#[test]
fn a_bench_says_what_it_does_and_does_it() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    must(&["create", "-q", "-f", "qcow2", "disk.q", "4M"], dir);
    let options = ["-w", "-c", "300", "-d", "8", "-s", "8k", "-S", "16k", "-o", "64k"];
    let pattern = ["--pattern=7", "--flush-interval=50", "-t", "unsafe", "disk.q"];
    let said = must(&[&["bench", "-f", "qcow2"][..], &options, &pattern].concat(), dir);
    let line = "Sending 300 write requests, 8192 bytes each, 8 in parallel \
                (starting at offset 65536, step size 16384)";
    assert!(said.starts_with(line) && said.contains("Run completed in "), "{said}");
    must(&["convert", "-f", "qcow2", "-O", "raw", "disk.q", "disk.raw"], dir);
    let bytes = std::fs::read(dir.join("disk.raw")).expect("a disk");
    assert!(bytes[65536..73728].iter().all(|byte| *byte == 7));
    assert!(bytes[73728..81920].iter().all(|byte| *byte == 0));
    assert!(!ours(&["bench", "-f", "qcow2", "-o", "4M", "disk.q"], dir).status.success());
}

#[test]
fn what_headers_name_is_opened_if_that_is_asked_for() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    if !chain(dir, OPTIONS[0]) {
        return;
    }
    let alone = ours(&["map", "-f", "qcow2", "top.q"], dir);
    assert!(String::from_utf8_lossy(&alone.stderr).contains("backing file 'a.q'"));
    let map = ["map", "-f", "qcow2", "--output=json"];
    let followed = must(&[&map[..], &["--backing-chain", "top.q"]].concat(), dir);
    let given = must(&[&map[..], &["--backing=qcow2:a.q", "top.q"]].concat(), dir);
    assert_eq!(followed, given);
    must(&["convert", "-f", "qcow2", "--backing-chain", "-O", "raw", "top.q", "copy.raw"], dir);
    let copy = std::fs::read(dir.join("copy.raw")).expect("a copy");
    assert!(copy == std::fs::read(dir.join("disk.raw")).expect("a disk"));
    must(&["commit", "-q", "-f", "qcow2", "--backing-chain", "top.q"], dir);
    theirs(&["compare", "-f", "qcow2", "-F", "raw", "a.q", "disk.raw"], dir);
}

#[test]
fn a_strict_comparison_finds_what_qemu_finds() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    if !chain(dir, OPTIONS[0]) {
        return;
    }
    for image in ["one.q", "other.q", "zero.q"] {
        must(&["create", "-q", "-f", "qcow2", image, "3M"], dir);
        patch(dir, image, "1M", "7");
    }
    patch(dir, "zero.q", "2M", "0");
    for [first, second] in [["one.q", "other.q"], ["one.q", "zero.q"], ["one.q", "b.q"]] {
        let compare = ["compare", "-s", "-f", "qcow2", "-F", "qcow2", first, second];
        let (ours, theirs) = (ours(&compare, dir), qemu(&compare, dir).expect("qemu-img"));
        assert_eq!(ours.status.code(), theirs.status.code(), "{first}, {second}");
        // QEMU also takes it for a difference that only one of two stretches ends with its disk.
        let words = |said: &[u8]| -> String {
            String::from_utf8_lossy(said).chars().filter(|c| !c.is_ascii_digit()).collect()
        };
        assert_eq!(words(&ours.stdout), words(&theirs.stdout));
    }
}
