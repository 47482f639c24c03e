//! Other people's NBD clients at `bulkhead storage --export nbd,…`.

mod client;
mod crowd;
mod dirty;
mod exports;
mod filters;
mod hostile;
mod kills;
mod luks;
mod resize;
mod rig;
mod tls;

use std::path::Path;

use rig::{Served, Stage, fail, same, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn nbdinfo_is_told_what_the_export_is() {
    let stage = Stage::new();
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, ",discard=on", ",name=a disk,description=for tests");
    let uri = format!("nbd+unix:///?socket={}", served.socket().display());
    let told = succeed("nbdinfo", &["--json", &uri]);
    for line in [
        "\"export-size\": 4194304",
        "\"is_read_only\": false",
        "\"can_multi_conn\": true",
        "\"can_trim\": true",
        "\"can_fast_zero\": true",
        "\"can_fua\": true",
        "\"can_cache\": true",
        "\"block_size_minimum\": 512",
        "base:allocation",
        "qemu:allocation-depth",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let list = succeed("nbdinfo", &["--list", &uri]);
    assert!(list.contains("export=\"a disk\"") && list.contains("for tests"), "{list}");
    let wrong = format!("nbd+unix:///other?socket={}", served.socket().display());
    fail("nbdinfo", &[&wrong]);
    assert!(served.end().0);
}

#[test]
fn nbdcopy_and_qemu_img_carry_a_disk_there_and_back() {
    for disk in ["", ",cache=none"] {
        // Direct I/O wants a real file system.
        let stage = Stage::new();
        let (noise, image) = (stage.noise("noise", 24), stage.empty("image", 24));
        let served = Served::start(&stage, &image, disk, "");
        succeed("nbdcopy", &["--flush", text(&noise), &served.uri()]);
        same(&noise, &image);
        let back = stage.path("back");
        succeed("nbdcopy", &["--connections=4", &served.uri(), text(&back)]);
        same(&noise, &back);
        let converted = stage.path("converted");
        succeed(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "raw", &served.uri(), text(&converted)],
        );
        same(&noise, &converted);
        succeed("qemu-img", &["compare", "-f", "raw", "-F", "raw", &served.uri(), text(&noise)]);
        assert!(served.end().0);
    }
}

#[test]
fn a_qcow2_image_tells_its_holes_and_layers() {
    let stage = Stage::new();
    let (base, top) = (stage.path("base.qcow2"), stage.path("top.qcow2"));
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", text(&base), "16M"]);
    succeed("qemu-io", &["-c", "write -P 1 0 1M", "-c", "write -P 2 4M 1M", text(&base)]);
    succeed(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-b", text(&base), "-F", "qcow2", text(&top)],
    );
    succeed("qemu-io", &["-c", "write -P 3 1M 1M", text(&top)]);
    let disk = format!(",format=qcow2,backing={},backing-format=qcow2", base.display());
    let served = Served::start(&stage, &top, &disk, "");
    let map =
        |context: &str| succeed("nbdinfo", &[&format!("--map={context}"), "--json", &served.uri()]);
    let compact = |told: String| told.split_whitespace().collect::<String>();
    let told = compact(map("base:allocation"));
    for extent in [
        "{\"offset\":0,\"length\":2097152,\"type\":0",
        "{\"offset\":2097152,\"length\":2097152,\"type\":3",
        "{\"offset\":4194304,\"length\":1048576,\"type\":0",
        "{\"offset\":5242880,\"length\":11534336,\"type\":3",
    ] {
        assert!(told.contains(extent), "{extent} in {told}");
    }
    let told = compact(map("qemu:allocation-depth"));
    for extent in [
        "{\"offset\":0,\"length\":1048576,\"type\":2",
        "{\"offset\":1048576,\"length\":1048576,\"type\":1",
        "{\"offset\":2097152,\"length\":2097152,\"type\":0",
    ] {
        assert!(told.contains(extent), "{extent} in {told}");
    }
    succeed(
        "qemu-io",
        &[
            "-f",
            "raw",
            "-c",
            "read -P 1 0 1M",
            "-c",
            "read -P 3 1M 1M",
            "-c",
            "read -P 0 2M 2M",
            &served.uri(),
        ],
    );
    assert!(served.end().0);
    assert!(succeed("qemu-img", &["check", text(&top)]).contains("No errors"));
}

#[test]
fn qemu_io_writes_zeroes_trims_and_flushes() {
    for format in ["raw", "qcow2"] {
        let stage = Stage::new();
        let image = stage.path("image");
        succeed("qemu-img", &["create", "-q", "-f", format, text(&image), "8M"]);
        let served = Served::start(&stage, &image, &format!(",format={format},discard=on"), "");
        succeed(
            "qemu-io",
            &[
                "-f",
                "raw",
                "-d",
                "unmap",
                "-c",
                "write -P 7 0 4M",
                "-c",
                "write -f -P 8 1M 64k",
                "-c",
                "write -z 2M 128k",
                "-c",
                "write -zu 3M 128k",
                "-c",
                "discard 512k 128k",
                "-c",
                "flush",
                "-c",
                "read -P 7 0 512k",
                "-c",
                "read -P 8 1M 64k",
                "-c",
                "read -P 0 2M 128k",
                "-c",
                "read -P 0 3M 128k",
                "-c",
                "read -P 7 3328k 768k",
                "-c",
                "read -P 0 4M 4M",
                "-c",
                "write -P 9 100 1000",
                "-c",
                "read -P 9 100 1000",
                "-c",
                "read -P 7 1100 948",
                &served.uri(),
            ],
        );
        // A client that never leaves is no reason to wait.
        assert!(served.end().0);
        succeed(
            "qemu-io",
            &["-f", format, "-c", "read -P 9 100 1000", "-c", "read -P 8 1M 64k", text(&image)],
        );
    }
}

#[test]
fn a_read_only_export_is_not_written() {
    let stage = Stage::new();
    let image = stage.noise("image", 1);
    let before = std::fs::read(&image).unwrap();
    let served = Served::start(&stage, &image, "", ",readonly");
    assert!(succeed("nbdinfo", &["--json", &served.uri()]).contains("\"is_read_only\": true"));
    fail("nbdcopy", &[text(&image), &served.uri()]);
    assert!(served.end().0);
    assert_eq!(std::fs::read(&image).unwrap(), before);
}

#[test]
fn fio_verifies_what_it_writes() {
    if !String::from_utf8_lossy(&rig::run("fio", &["--enghelp"]).stdout).contains("nbd") {
        eprintln!("skipped: this fio has no nbd engine");
        return;
    }
    let stage = Stage::new();
    let image = stage.empty("image", 16);
    let served = Served::start(&stage, &image, "", "");
    succeed(
        "fio",
        &[
            "--name=verify",
            "--ioengine=nbd",
            &format!("--uri={}", served.uri()),
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=32",
            "--size=16M",
            "--verify=crc32c",
            "--do_verify=1",
            "--verify_state_save=0",
            "--verify_fatal=1",
            "--numjobs=1",
        ],
    );
    assert!(served.end().0);
}

#[test]
fn a_disk_is_served_by_vhost_user_and_twice_by_nbd_at_once() {
    let stage = Stage::new();
    let image = stage.noise("image", 2);
    let second = stage.path("second.sock");
    let frontend = stage.path("vhost.sock");
    let more = [
        "--export".to_owned(),
        format!("nbd,disk=d0,socket={},name=ro,readonly", second.display()),
        "--export".to_owned(),
        format!("vhost-user-blk,disk=d0,socket={}", frontend.display()),
    ];
    let served = Served::start_with(&stage, &image, "", "", &more);
    let ro = format!("nbd+unix:///ro?socket={}", second.display());
    for uri in [served.uri(), ro] {
        let back = stage.path("back");
        succeed("nbdcopy", &[&uri, text(&back)]);
        same(&image, &back);
    }
    assert!(frontend.exists());
    served.kill("vhost-blk");
    served.kill("nbd-server");
    assert!(served.end().0);
    assert!(!second.exists() && !frontend.exists());
}
