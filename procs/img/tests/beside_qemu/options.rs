//! What is copied, and how much of it: snapshots, targets that are there, bitmaps, zeroes, several sources,
//! chains that are looked at.

use std::path::Path;

use tempfile::TempDir;

use super::program::{must, ours};
use super::run::{facts, patch, qemu, raw_disk, same_disk, theirs};

/// An image whose disk has changed since its snapshot `s1`; `false`: there is no qemu-img.
fn with_snapshot(dir: &Path) -> bool {
    must(&["create", "-q", "-f", "qcow2", "disk.q", "4M"], dir);
    if qemu(&["check", "-q", "disk.q"], dir).is_none() {
        eprintln!("skipped: there is no qemu-img");
        return false;
    }
    patch(dir, "disk.q", "100k", "1");
    must(&["snapshot", "-c", "s1", "disk.q"], dir);
    patch(dir, "disk.q", "200k", "2");
    must(&["resize", "-q", "-f", "qcow2", "disk.q", "+1M"], dir);
    patch(dir, "disk.q", "4M", "3");
    true
}

fn same(one: &str, other: &str, dir: &Path) {
    theirs(&["compare", "-s", "-f", "raw", "-F", "raw", one, other], dir);
}

#[test]
fn a_snapshot_is_converted_and_measured_as_it_was() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    if !with_snapshot(dir) {
        return;
    }
    theirs(&["convert", "-l", "snapshot.name=s1", "-O", "raw", "disk.q", "theirs.raw"], dir);
    for name in ["s1", "1"] {
        must(&["convert", "-f", "qcow2", "-l", name, "-O", "raw", "disk.q", "ours.raw"], dir);
        // As long as the disk was then; QEMU makes it as long as it is now, with zeroes at the end.
        let len = std::fs::metadata(dir.join("ours.raw")).expect("a disk").len();
        assert_eq!(len, 4 << 20);
        theirs(&["compare", "-f", "raw", "-F", "raw", "ours.raw", "theirs.raw"], dir);
    }
    let measure = ["measure", "-O", "qcow2", "--output=json"];
    let mine = must(&[&measure[..], &["-f", "qcow2", "-l", "s1", "disk.q"]].concat(), dir);
    let yours = theirs(&[&measure[..], &["-l", "snapshot.name=s1", "disk.q"]].concat(), dir);
    assert_eq!(facts(&mine)["required"], facts(&yours.expect("qemu-img"))["required"]);
    must(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
}

/// What the target held before is gone where the source has nothing.
#[test]
fn a_target_that_is_there_becomes_the_disk() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    if !with_snapshot(dir) {
        return;
    }
    theirs(&["convert", "-O", "raw", "disk.q", "disk.raw"], dir);
    for (format, compress) in [("raw", "-q"), ("qcow2", "-q"), ("qcow2", "-c")] {
        must(&["create", "-q", "-f", format, "target", "5M"], dir);
        let write = ["-f", format, "-c", "write -P 9 0 5M", "target"];
        let done = std::process::Command::new("qemu-io").args(write).current_dir(dir).output();
        assert!(done.expect("qemu-io runs").status.success());
        must(&["convert", "-n", compress, "-f", "qcow2", "-O", format, "disk.q", "target"], dir);
        must(&["compare", "-f", format, "-F", "raw", "target", "disk.raw"], dir);
        theirs(&["compare", "-f", format, "-F", "raw", "target", "disk.raw"], dir);
        if format == "qcow2" {
            theirs(&["check", "-q", "-f", format, "target"], dir);
        }
    }
    // What is behind the disk stays.
    must(&["create", "-q", "-f", "raw", "target", "6M"], dir);
    let zero = ["convert", "-n", "--target-is-zero", "-f", "qcow2", "-O", "raw"];
    must(&[&zero[..], &["disk.q", "target"]].concat(), dir);
    theirs(&["compare", "-f", "raw", "-F", "raw", "target", "disk.raw"], dir);
}

#[test]
fn bitmaps_are_copied_with_the_disk() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    must(&["create", "-q", "-f", "qcow2", "disk.q", "4M"], dir);
    must(&["bitmap", "--add", "-g", "32k", "disk.q", "on"], dir);
    must(&["bitmap", "--add", "--disable", "disk.q", "off"], dir);
    if qemu(&["check", "-q", "disk.q"], dir).is_none() {
        eprintln!("skipped: there is no qemu-img");
        return;
    }
    patch(dir, "disk.q", "100k", "1");
    let measure = ["measure", "-O", "qcow2", "-f", "qcow2", "--output=json", "disk.q"];
    let room = |text: &str| facts(text)["bitmaps"].clone();
    assert_eq!(room(&must(&measure, dir)), room(&theirs(&measure, dir).expect("qemu-img")));
    let convert = ["convert", "--bitmaps", "-f", "qcow2", "-O", "qcow2", "disk.q"];
    must(&[&convert[..], &["ours.q"]].concat(), dir);
    theirs(&[&convert[..], &["theirs.q"]].concat(), dir);
    let info = |image| ["info", "-f", "qcow2", "--output=json", image];
    let kept = |text: &str| facts(text)["format-specific"]["data"]["bitmaps"].clone();
    let yours = kept(&theirs(&info("theirs.q"), dir).expect("qemu-img"));
    assert_eq!(kept(&must(&info("ours.q"), dir)), yours);
    assert_eq!(yours.as_array().map(Vec::len), Some(2));
    theirs(&["check", "-q", "ours.q"], dir);
    // What is dirty in one is dirty in the other: merged, nothing is added.
    for image in ["ours.q", "theirs.q"] {
        must(&["bitmap", "--merge", "on", image, "off"], dir);
    }
    // One that was not closed is not believed.
    let write = ["-c", "write 0 64k", "-c", "abort", "disk.q"];
    let _ = std::process::Command::new("qemu-io").args(write).current_dir(dir).output();
    let refused = ours(&[&convert[..], &["broken.q"]].concat(), dir);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("Cannot copy inconsistent bitmap 'o"), "{said}");
    assert!(!dir.join("broken.q").exists());
    must(&[&convert[..], &["--skip-broken-bitmaps", "broken.q"]].concat(), dir);
    assert!(kept(&must(&info("broken.q"), dir)).is_null());
}

#[test]
fn zeroes_are_written_where_that_is_asked_for() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    for sparse in ["0", "512", "64k", "1M"] {
        let convert = ["convert", "-S", sparse, "-f", "raw", "-O", "qcow2", "disk.raw"];
        must(&[&convert[..], &["ours.q"]].concat(), dir);
        same_disk(&["-f", "raw", "-F", "qcow2", "disk.raw", "ours.q"], dir);
        must(&["check", "-q", "-f", "qcow2", "ours.q"], dir);
        let map = facts(&must(&["map", "-f", "qcow2", "--output=json", "ours.q"], dir));
        let ranges = map.as_array().expect("ranges");
        let all_data = ranges.iter().all(|range| range["data"] == true);
        // The disk has no megabyte of zeroes.
        assert_eq!(all_data, ["0", "1M"].contains(&sparse), "{map}");
    }
    assert_eq!(
        ours(&["convert", "-S", "700", "-f", "raw", "-O", "raw", "a", "b"], dir).status.code(),
        Some(1)
    );
}

#[test]
fn several_disks_become_one() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    std::fs::write(dir.join("odd.raw"), vec![7; 100_000]).expect("a file");
    let sources = ["odd.raw", "disk.raw", "odd.raw"];
    let convert = ["convert", "-f", "raw", "-O", "raw"];
    must(&[&convert[..], &sources, &["ours.raw"]].concat(), dir);
    if qemu(&[&convert[..], &sources, &["theirs.raw"]].concat(), dir).is_none() {
        eprintln!("skipped: there is no qemu-img");
        return;
    }
    same("ours.raw", "theirs.raw", dir);
    let packed = ["convert", "-c", "-f", "raw", "-O", "qcow2"];
    must(&[&packed[..], &sources, &["ours.q"]].concat(), dir);
    same_disk(&["-f", "raw", "-F", "qcow2", "ours.raw", "ours.q"], dir);
    theirs(&["compare", "-f", "raw", "-F", "qcow2", "ours.raw", "ours.q"], dir);
    theirs(&["check", "-q", "ours.q"], dir);
}

/// Word for word, by people and by programs.
#[test]
fn a_chain_is_told_as_qemu_tells_it() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    if !with_snapshot(dir) {
        return;
    }
    std::fs::create_dir(dir.join("below")).expect("a folder");
    must(&["bitmap", "--add", "disk.q", "b0"], dir);
    let create = ["create", "-q", "-f", "qcow2", "-F", "qcow2"];
    must(&[&create[..], &["-b", "../disk.q", "below/middle.q"]].concat(), dir);
    must(&[&create[..], &["-b", "below/middle.q", "top.q"]].concat(), dir);
    for form in [&["--backing-chain"][..], &[]] {
        for image in ["top.q", "below/middle.q", "disk.q"] {
            let info = [&["info", "-f", "qcow2"][..], form, &[image]].concat();
            assert_eq!(must(&info, dir), theirs(&info, dir).expect("qemu-img"));
            let info = [&info[..], &["--output=json"]].concat();
            let yours = theirs(&info, dir).expect("qemu-img");
            assert_eq!(facts(&must(&info, dir)), facts(&yours));
        }
    }
    for output in ["--output=human", "--output=json"] {
        let map = ["map", "-f", "qcow2", output, "disk.q"];
        assert_eq!(must(&map, dir), theirs(&map, dir).expect("qemu-img"));
    }
    let gone = dir.join("below/middle.q");
    std::fs::remove_file(&gone).expect("removed");
    let output = ours(&["info", "-f", "qcow2", "--backing-chain", "top.q"], dir);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "bulkhead-img: below/middle.q: No such file or directory (os error 2)\n");
}

/// Without `-U` a file that is written is refused; with it, it is read as it is.
#[test]
fn a_file_that_is_written_is_read_if_that_is_asked_for() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    must(&["create", "-q", "-f", "qcow2", "disk.q", "4M"], dir);
    let file = std::fs::File::options().read(true).write(true).open(dir.join("disk.q"));
    let file = file.expect("an image");
    // QEMU's byte of a writer, as a lock of this description.
    let lock = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 101,
        l_len: 1,
        l_pid: 0,
    };
    let locked = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock));
    locked.expect("locked");
    for command in [&["check", "-f", "qcow2"][..], &["map", "-f", "qcow2"], &["snapshot"]] {
        let refused = ours(&[command, &["disk.q"]].concat(), dir);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("disk.q: it is locked by") && said.contains("with -U"), "{said}");
        must(&[command, &["-U", "disk.q"]].concat(), dir);
    }
}
