//! Disks that grow while clients use them.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::rig::{Served, Stage, same, succeed};

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn size(uri: &str) -> u64 {
    succeed("nbdinfo", &["--size", uri]).trim().parse().expect("bytes")
}

fn image(stage: &Stage, format: &str, mebibytes: u64) -> std::path::PathBuf {
    let image = stage.path("image");
    succeed("qemu-img", &["create", "-q", "-f", format, text(&image), &format!("{mebibytes}M")]);
    image
}

#[test]
fn a_disk_grows_and_the_next_client_sees_and_fills_it() {
    for (format, more) in [("raw", ""), ("qcow2", ""), ("raw", ",cache=none")] {
        let stage = Stage::new();
        let noise = stage.noise("noise", 24);
        let image = image(&stage, format, 8);
        let served = Served::start(&stage, &image, &format!(",format={format}{more}"), "");
        let block = served.block();
        for (wrong, reason) in
            [("4M", "it would lose"), ("9000000", "multiple of"), ("0", "it would lose")]
        {
            let complaint = block.run(&["resize"], &["d0", wrong]).unwrap_err();
            assert!(complaint.contains(reason), "{wrong}: {complaint}");
        }
        block.run(&["bitmap", "add"], &["d0", "b"]).expect("a bitmap");
        block.run(&["resize"], &["d0", "24M"]).expect("more room");
        assert_eq!(block.disk().size, 24 * MIB);
        assert_eq!(size(&served.uri()), 24 * MIB);
        succeed("nbdcopy", &["--flush", text(&noise), &served.uri()]);
        let back = stage.path("back");
        for role in ["block-layer", "nbd-server"] {
            served.kill(role);
            assert_eq!(size(&served.uri()), 24 * MIB, "{format} {role}");
            succeed("nbdcopy", &[&served.uri(), text(&back)]);
            same(&noise, &back);
        }
        assert!(served.end().0);
        succeed("qemu-img", &["compare", "-f", "raw", "-F", format, text(&noise), text(&image)]);
    }
}

#[test]
fn a_job_and_a_larger_size_exclude_each_other() {
    let stage = Stage::new();
    let image = image(&stage, "raw", 8);
    let served = Served::start(&stage, &image, ",format=raw,delay=5", "");
    let block = served.block();
    let target = format!("path={},format=raw", stage.path("copy").display());
    block.run(&["mirror"], &["d0", "--target", &target, "--speed", "64K"]).expect("a mirror");
    let complaint = block.run(&["resize"], &["d0", "16M"]).unwrap_err();
    assert!(complaint.contains("mirror-d0"), "{complaint}");
    block.run(&["job", "cancel"], &["mirror-d0"]).expect("its end");
    while !block.jobs().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    block.run(&["resize"], &["d0", "16M"]).expect("more room");
    assert!(served.end().0);
}

/// Whenever the block layer dies, the disk has one size or the other, and everybody agrees on it.
#[test]
fn a_disk_that_grows_while_its_block_layer_dies_is_whole() {
    for format in ["raw", "qcow2"] {
        let stage = Stage::new();
        let noise = stage.noise("noise", 4);
        let image = image(&stage, format, 4);
        let served = Served::start(&stage, &image, &format!(",format={format}"), "");
        succeed("nbdcopy", &["--flush", text(&noise), &served.uri()]);
        let (mut now, mut grown) = (4 * MIB, 0);
        for round in 0..24_u64 {
            let wanted = now + MIB;
            let victim = served.process("block-layer");
            let mut command = served.block().command(&["resize"], &["d0", &wanted.to_string()]);
            let mut resize = command.stderr(Stdio::null()).spawn().expect("bulkhead starts");
            std::thread::sleep(std::time::Duration::from_micros(round % 12 * 400));
            victim.signal(Signal::SIGKILL);
            let done = resize.wait().expect("a status").success();
            let found = loop {
                match served.block().disk() {
                    disk if disk.serving => break disk.size,
                    _ => std::thread::sleep(std::time::Duration::from_millis(2)),
                }
            };
            assert!(found == now || found == wanted, "{format}: {found}");
            assert!(!done || found == wanted, "{format}: it said that it had grown");
            assert_eq!(size(&served.uri()), found, "{format}");
            grown += u64::from(found > now);
            now = found;
        }
        println!("{format}: grew {grown} times of 24");
        served.block().insist(&["resize"], &["d0", &(now + MIB).to_string()]).expect("it lives");
        assert!(served.end().0);
        let info = succeed("qemu-img", &["info", "-f", format, "--output=json", text(&image)]);
        assert!(info.contains(&format!("\"virtual-size\": {}", now + MIB)), "{info}");
        if format == "qcow2" {
            assert!(succeed("qemu-img", &["check", text(&image)]).contains("No errors"));
        }
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-f", format, "-F", "raw", text(&image), text(&noise)]);
        // The rest is zeroes: without -s a longer image of these is the same.
        assert!(compare.output().expect("qemu-img").status.success(), "{format}");
    }
}
