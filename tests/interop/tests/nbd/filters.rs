//! What stands in front of a disk, and disks that are not all of a file.

use std::path::Path;

use bulkhead_harness::programs;

use crate::rig::{Served, Stage, fail, run, same, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_part_of_a_file_is_a_disk_and_the_rest_stays_as_it_is() {
    let stage = Stage::new();
    let (before, noise) = (stage.noise("before", 6), stage.noise("noise", 3));
    let image = stage.path("image");
    std::fs::copy(&before, &image).unwrap();
    let served = Served::start(&stage, &image, ",offset=1M,size=3M", "");
    succeed("nbdcopy", &[text(&noise), &served.uri()]);
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&noise, &back);
    served.kill("block-layer");
    assert!(succeed("nbdinfo", &["--size", &served.uri()]).trim() == "3145728");
    assert!(served.end().0);
    let (old, new) = (std::fs::read(&before).unwrap(), std::fs::read(&image).unwrap());
    assert!(new[1 << 20..4 << 20] == std::fs::read(&noise).unwrap());
    assert!(new[..1 << 20] == old[..1 << 20] && new[4 << 20..] == old[4 << 20..]);
    // As a backing file, from another place on.
    let top = stage.path("top.qcow2");
    let base = format!(
        "json:{{\"driver\":\"raw\",\"offset\":2097152,\"size\":2097152,\"file\":{{\"driver\":\"file\",\"filename\":\"{}\"}}}}",
        text(&image)
    );
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &base, text(&top)]);
    let disk = format!(
        ",format=qcow2,backing={},backing-format=raw,base-offset=2M,base-size=2M",
        text(&image)
    );
    let served = Served::start(&stage, &top, &disk, "");
    let back = stage.path("part");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    assert!(std::fs::read(&back).unwrap() == new[2 << 20..4 << 20]);
    assert!(served.end().0);
}

#[test]
fn a_part_that_the_file_does_not_have_is_refused_in_a_line() {
    let stage = Stage::new();
    let image = stage.empty("image", 2);
    for (part, reason) in [
        ("offset=1M,size=2M", "no 2097152 of them from 1048576 on"),
        ("offset=2M", "no 0 of them from 2097152 on"),
        ("offset=1000", "no multiple of the block size"),
        ("size=1000", "no multiple of its block size"),
    ] {
        let disk = format!("id=d0,path={},format=raw,{part}", text(&image));
        let socket = format!("nbd,disk=d0,socket={}", text(&stage.path("s")));
        let program = programs::folder().join("bulkhead");
        let said = fail(text(&program), &["storage", "--disk", &disk, "--export", &socket]);
        assert!(said.contains(reason) && said.trim().lines().count() == 1, "{part}: {said}");
    }
}

#[test]
fn faults_strike_where_their_rules_say_and_after_a_restart_as_well() {
    let stage = Stage::new();
    let image = stage.empty("image", 4);
    let rules = ",inject=write:EIO:offset=1M:size=64K;read:ENOSPC:offset=3M:after=1:times=1";
    let served = Served::start(&stage, &image, rules, "");
    let io = |command: &str| {
        let output = run("qemu-io", &["-f", "raw", "-c", command, &served.uri()]);
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    };
    for round in 0..2 {
        assert!(io("write -P 1 0 64k").contains("wrote 65536"), "{round}");
        assert!(io("write -P 1 1M 4k").contains("Input/output error"), "{round}");
        assert!(io("write -P 1 1088k 4k").contains("wrote 4096"), "{round}");
        assert!(io("read 3M 512").contains("read 512"), "{round}");
        assert!(io("read 3M 512").contains("No space left"), "{round}");
        assert!(io("read 3M 512").contains("read 512"), "{round}");
        served.kill("block-layer");
    }
    assert!(served.end().0);
}

#[test]
fn what_is_read_from_below_is_the_images_own_afterwards() {
    let stage = Stage::new();
    let (base, top) = (stage.noise("base", 4), stage.path("top.qcow2"));
    let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", text(&base), text(&top)];
    succeed("qemu-img", &create);
    let disk = format!(",format=qcow2,copy-on-read,backing={},backing-format=raw", text(&base));
    let served = Served::start(&stage, &top, &disk, "");
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&base, &back);
    assert!(served.end().0);
    let map = succeed("qemu-img", &["map", "--output=json", text(&top)]);
    assert!(map.contains("\"depth\": 0") && !map.contains("\"depth\": 1"), "{map}");
    succeed("qemu-img", &["rebase", "-u", "-b", "", text(&top)]);
    succeed("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "raw", text(&top), text(&base)]);
}

#[test]
fn limits_hold_and_can_be_changed_while_the_disk_is_used() {
    let stage = Stage::new();
    let image = stage.noise("image", 1);
    // Nothing but the first tenth of a second's requests would pass within the test's life.
    let limits = ",throttling.iops-read=10,throttling.bps-write=10M,throttling.bps-write-max=20M";
    let served = Served::start(&stage, &image, limits, "");
    let name = served.name().to_owned();
    let bulkhead = programs::folder().join("bulkhead");
    let said = fail(text(&bulkhead), &["block", "throttle", &name, "d0", "iops=5,iops-read=5"]);
    assert!(said.contains("goes with none of reads or writes alone"), "{said}");
    succeed(text(&bulkhead), &["block", "throttle", &name, "d0", "iops=1000000,iops-size=4K"]);
    served.kill("block-layer");
    let back = stage.path("back");
    succeed("nbdcopy", &["--request-size=4096", &served.uri(), text(&back)]);
    same(&image, &back);
    assert!(served.end().0);
}

#[test]
fn disks_of_a_group_have_its_limits_and_change_them_together() {
    let stage = Stage::new();
    let (image, other) = (stage.noise("image", 1), stage.noise("other", 1));
    let socket = stage.path("other.sock");
    let group = ",throttling.group=g";
    let more = [
        "--disk".to_owned(),
        format!("id=d1,path={},format=raw{group}", text(&other)),
        "--export".to_owned(),
        format!("nbd,disk=d1,socket={}", text(&socket)),
    ];
    // A quarter of an hour for all of either disk.
    let limits = format!(",throttling.iops-total=1{group}");
    let served = Served::start_with(&stage, &image, &limits, "", &more);
    let name = served.name().to_owned();
    let bulkhead = programs::folder().join("bulkhead");
    served.kill("block-layer");
    succeed(text(&bulkhead), &["block", "throttle", &name, "d0", "iops=1000000"]);
    let (uri, back) = (format!("nbd+unix:///d1?socket={}", text(&socket)), stage.path("back"));
    succeed("nbdcopy", &["--request-size=4096", &uri, text(&back)]);
    same(&other, &back);
    assert!(served.end().0);
    let disk = |id: &str, image: &Path, iops: u32| {
        format!("id={id},path={},format=raw,throttling.iops-total={iops}{group}", text(image))
    };
    let export = format!("nbd,disk=d0,socket={}", text(&stage.path("s")));
    let (one, two) = (disk("d0", &image, 1), disk("d1", &other, 2));
    let said =
        fail(text(&bulkhead), &["storage", "--disk", &one, "--disk", &two, "--export", &export]);
    assert!(said.contains("disk d0 has other limits"), "{said}");
}

#[test]
fn a_disk_of_zeroes_is_as_large_as_it_is_told_to_be() {
    let stage = Stage::new();
    let served = Served::of(&stage, "driver=null-co,size=1T", "", &[]);
    assert_eq!(succeed("nbdinfo", &["--size", &served.uri()]).trim(), "1099511627776");
    let io = |command: &str| succeed("qemu-io", &["-f", "raw", "-c", command, &served.uri()]);
    assert!(io("write -P 9 1G 1M").contains("wrote 1048576"));
    assert!(io("read -P 0 1G 1M").contains("read 1048576"));
    assert!(io("discard 0 1M").contains("discard 1048576"));
    assert!(served.end().0);
}

#[test]
fn an_image_is_held_against_a_raw_file_and_the_first_difference_is_told() {
    let stage = Stage::new();
    let (image, reference) = (stage.path("image"), stage.empty("reference", 8));
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", text(&image), "8M"]);
    let keys = format!(",format=qcow2,verify={}", text(&reference));
    let served = Served::start(&stage, &image, &keys, "");
    let noise = stage.noise("noise", 8);
    let writing = std::process::Command::new("nbdcopy").arg(&noise).arg(served.uri()).spawn();
    served.kill("block-layer");
    assert!(writing.unwrap().wait().unwrap().success());
    succeed("qemu-io", &["-f", "raw", "-c", "write -z 1M 1M", "-c", "flush", &served.uri()]);
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&back, &reference);
    let mut events = programs::bulkhead();
    let events = events.args(["events", served.name()]).stdout(std::process::Stdio::piped());
    let events = events.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let file = std::fs::OpenOptions::new().write(true).open(&reference).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"other", (3 << 20) + 700).unwrap();
    let said = fail("qemu-io", &["-f", "raw", "-c", "read 3M 64k", &served.uri()]);
    assert!(said.contains("Input/output error"), "{said}");
    succeed("qemu-io", &["-f", "raw", "-c", "read 4M 64k", &served.uri()]);
    assert!(served.end().0);
    let told = events.wait_with_output().unwrap().stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("verify-mismatch") && told.contains("3146240"), "{told}");
    succeed("qemu-img", &["check", "-q", "-f", "qcow2", text(&image)]);
    for (reference, reason) in [
        (text(&stage.empty("small", 4)).to_owned(), "give one of the same size"),
        (text(&image).to_owned(), "it is locked"),
        (text(&stage.path("none")).to_owned(), "no such file"),
    ] {
        let disk = format!("id=d0,path={},format=qcow2,verify={reference}", text(&image));
        let socket = format!("nbd,disk=d0,socket={}", text(&stage.path("s")));
        let bulkhead = programs::folder().join("bulkhead");
        let arguments = ["storage", "--disk", &disk, "--export", &socket];
        let output = run(text(&bulkhead), &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(reason), "{reason}: {said}");
    }
}
