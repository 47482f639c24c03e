//! The command beside `qemu-img`: the same images, the same answers.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn ours(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-img"));
    command.args(arguments).current_dir(folder).output().expect("bulkhead-img runs")
}

fn must(arguments: &[&str], folder: &Path) -> String {
    let output = ours(arguments, folder);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{complaint}");
    text
}

fn qemu(arguments: &[&str], folder: &Path) -> Option<Output> {
    Command::new("qemu-img").args(arguments).current_dir(folder).output().ok()
}

/// `None` where there is no qemu-img.
fn theirs(arguments: &[&str], folder: &Path) -> Option<String> {
    let output = qemu(arguments, folder)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {complaint}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn raw_disk(folder: &Path) {
    let mut bytes = vec![0; 5 << 20];
    for (index, byte) in bytes.iter_mut().enumerate() {
        if index / 300_000 % 3 != 1 {
            *byte = (index / 1000 % 251) as u8;
        }
    }
    std::fs::write(folder.join("disk.raw"), bytes).expect("a raw disk");
}

const OPTIONS: [&str; 8] = [
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=2M,refcount_bits=1",
    "extended_l2=on,compression_type=zstd",
    "preallocation=metadata,lazy_refcounts=on",
    "preallocation=falloc",
    "data_file=outside,data_file_raw=on",
    "refcount_bits=64,compression_type=zstd",
];

#[test]
fn converted_images_are_those_disks_and_free_of_errors() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    for options in OPTIONS {
        let convert = ["convert", "-f", "raw", "-O", "qcow2", "-o", options, "disk.raw", "disk.q"];
        must(&convert, dir);
        if qemu(&["check", "-q", "-f", "qcow2", "disk.q"], dir).is_none() {
            eprintln!("skipped: there is no qemu-img");
            return;
        }
        theirs(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        theirs(&["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", "disk.q"], dir);
        let data = if options.contains("data_file") { "--data-file=outside" } else { "-q" };
        must(&["compare", "-f", "qcow2", "-F", "raw", data, "disk.q", "disk.raw"], dir);
        must(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        let ours = must(&["info", "-f", "qcow2", "--output=json", "disk.q"], dir);
        let theirs = theirs(&["info", "-f", "qcow2", "--output=json", "disk.q"], dir);
        assert_eq!(facts(&ours), facts(&theirs.expect("qemu-img info")), "{options}");
    }
}

fn facts(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn compressed_images_are_smaller_and_read_the_same() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    for options in ["compression_type=zlib", "compression_type=zstd,cluster_size=4k"] {
        let convert =
            ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "disk.raw", "disk.q"];
        must(&convert, dir);
        let len = std::fs::metadata(dir.join("disk.q")).expect("an image").len();
        assert!(len < 1 << 20, "{len} bytes");
        must(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        theirs(&["check", "-q", "-f", "qcow2", "disk.q"], dir);
        theirs(&["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", "disk.q"], dir);
    }
}

#[test]
fn an_overlay_is_made_resized_mapped_and_compared() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    must(&["create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "top.q"], dir);
    must(
        &["compare", "-f", "qcow2", "-F", "raw", "--backing=raw:disk.raw", "top.q", "disk.raw"],
        dir,
    );
    let map =
        must(&["map", "-f", "qcow2", "--backing=raw:disk.raw", "--output=json", "top.q"], dir);
    assert_eq!(facts(&map)[0]["depth"], 1);
    let output = ours(&["map", "-f", "qcow2", "top.q"], dir);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("backing file 'disk.raw'"), "{complaint}");
    assert!(complaint.contains("--backing"), "{complaint}");
    must(&["resize", "-f", "qcow2", "--backing=raw:disk.raw", "top.q", "+1M"], dir);
    assert!(
        !ours(&["resize", "-f", "qcow2", "--backing=raw:disk.raw", "top.q", "1M"], dir)
            .status
            .success()
    );
    theirs(&["check", "-q", "-f", "qcow2", "top.q"], dir);
    let info = must(&["info", "-f", "qcow2", "--output=json", "top.q"], dir);
    assert_eq!(facts(&info)["virtual-size"], 6 << 20);
    assert_eq!(
        ours(&["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", "top.q"], dir)
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn what_is_measured_is_what_qemu_measures() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    for size in ["0", "1M", "77777920", "10G"] {
        for options in
            ["cluster_size=64k", "cluster_size=512", "extended_l2=on", "refcount_bits=64"]
        {
            if size == "10G" && options == "cluster_size=512" {
                continue;
            }
            let arguments =
                ["measure", "-O", "qcow2", "-o", options, "--size", size, "--output=json"];
            let ours = facts(&must(&arguments, dir));
            let Some(theirs) = theirs(&arguments, dir) else {
                eprintln!("skipped: there is no qemu-img");
                return;
            };
            let theirs = facts(&theirs);
            assert_eq!(ours["required"], theirs["required"], "{size}, {options}");
            assert_eq!(ours["fully-allocated"], theirs["fully-allocated"], "{size}, {options}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    for (arguments, says) in [
        (&["info", "-f", "qcow2", "disk.raw"][..], "not in qcow2 format"),
        (&["create", "-f", "qcow2", "-o", "cluster_size=3k", "a", "1M"], "power of two"),
        (&["create", "-f", "qcow2", "-o", "colour=red", "a", "1M"], "no such option"),
        (&["create", "-f", "qcow2", "-b", "x", "-F", "raw", "a"], "x"),
        (&["convert", "-f", "raw", "-O", "raw", "disk.raw", "disk.raw"], "source itself"),
        (&["check", "-f", "raw", "disk.raw"], "nothing to check"),
        (&["info", "-f", "qcow2", "missing"], "No such file"),
    ] {
        let output = ours(arguments, dir);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains(says), "{arguments:?}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

fn patch(dir: &Path, image: &str, at: &str, byte: &str) {
    let write = format!("write -P {byte} {at} 300k");
    let done = Command::new("qemu-io").args(["-c", &write, image]).current_dir(dir).output();
    assert!(done.expect("qemu-io runs").status.success());
}

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
                must(&["compare", "-s", "-f", "qcow2", "-F", "raw", "disk.q", name], dir);
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
