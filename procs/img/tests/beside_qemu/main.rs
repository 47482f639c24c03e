//! The command beside `qemu-img`: the same images, the same answers.

mod chains;
mod changes;
mod encrypted;
mod options;
#[path = "../program/mod.rs"]
mod program;
mod run;
mod servers;

use program::{must, ours};
use run::{facts, qemu, raw_disk, theirs};
use tempfile::TempDir;

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
