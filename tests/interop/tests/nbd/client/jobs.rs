//! Jobs whose target lies on a server.

use super::{Server, run, text};
use crate::rig::{Served, Stage, same, succeed};

fn bulkhead(arguments: &[&str]) -> (Option<i32>, String) {
    let bulkhead = bulkhead_harness::programs::folder().join("bulkhead");
    let output = run(text(&bulkhead), arguments);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn block(arguments: &[&str]) {
    let (code, said) = bulkhead(&[&["block"], arguments].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
}

#[test]
fn a_backup_and_a_mirror_go_to_a_server_and_the_disk_moves_there() {
    let (stage, theirs, other) = (Stage::new(), Stage::new(), Stage::new());
    let (image, backup, mirror) =
        (stage.noise("image", 16), theirs.empty("backup", 16), other.noise("mirror", 16));
    // What was there before is not what is there afterwards, where the source has holes as well.
    succeed("qemu-io", &["-f", "raw", "-c", "write -z -u 4M 4M", text(&image)]);
    let served = Served::start(&stage, &image, "", "");
    let (kit, qemu) = (
        Server::nbdkit(&theirs, &["file", text(&backup)]),
        Server::qemu(&other, &mirror, "raw", &[]),
    );
    let (name, target) =
        (served.name(), |server: &Server| format!("nbd={},format=raw", server.uri()));
    block(&["backup", name, "d0", "--target", &target(&kit), "--wait"]);
    same(&image, &backup);
    block(&["mirror", name, "d0", "--target", &target(&qemu), "--job", "m"]);
    let ready = || bulkhead(&["block", "jobs", name]).1.contains("ready");
    let start = std::time::Instant::now();
    while !ready() {
        assert!(start.elapsed().as_secs() < 60, "{}", bulkhead(&["block", "jobs", name]).1);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    succeed("qemu-io", &["-f", "raw", "-c", "write -P 5 1M 1M", "-c", "flush", &served.uri()]);
    block(&["job", "complete", name, "m"]);
    let start = std::time::Instant::now();
    while !bulkhead(&["block", "query", name]).1.contains("nbd+unix") {
        assert!(start.elapsed().as_secs() < 60, "{}", bulkhead(&["block", "query", name]).1);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    succeed("qemu-io", &["-f", "raw", "-c", "write -P 6 2M 1M", "-c", "flush", &served.uri()]);
    // A successor is planned from where the disk lies now.
    served.kill("block-layer");
    succeed("qemu-io", &["-f", "raw", "-c", "read -P 6 2M 1M", &served.uri()]);
    succeed(
        "qemu-io",
        &["-U", "-r", "-f", "raw", "-c", "read -P 5 1M 1M", "-c", "read -P 6 2M 1M", text(&mirror)],
    );
    let rest = |path| std::fs::read(path).unwrap().split_off(3 << 20);
    assert!(rest(&image) == rest(&mirror), "the rest was not copied");
    assert!(served.end().0);
}

#[test]
fn a_target_that_is_too_small_or_away_is_refused_and_the_disk_goes_on() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    let small = Server::nbdkit(&theirs, &["memory", "2M"]);
    let name = served.name();
    let nobody = format!("nbd+unix:///?socket={}", theirs.path("nobody").display());
    let cases = [
        (small.uri(), "give one of the same size"),
        (nobody, "no such file"),
        ("nbd:x".into(), "no URI"),
    ];
    for (uri, reason) in cases {
        let target = format!("nbd={uri},format=raw");
        for kind in ["backup", "mirror"] {
            let (code, said) = bulkhead(&["block", kind, name, "d0", "--target", &target]);
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(reason), "{said}");
        }
    }
    succeed("qemu-io", &["-f", "raw", "-c", "read 0 4M", &served.uri()]);
    assert!(served.end().0);
}

/// Waits until nothing is heard of jobs any more.
fn no_job_is_left(name: &str) {
    let start = std::time::Instant::now();
    loop {
        let (_, said) = bulkhead(&["block", "jobs", name]);
        if !said.contains("mirror") && !said.contains("backup") {
            return;
        }
        assert!(start.elapsed().as_secs() < 60, "{said}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_job_whose_server_falls_silent_is_cancelled_and_lets_the_guest_go_on() {
    for kind in ["backup", "mirror"] {
        let (stage, theirs) = (Stage::new(), Stage::new());
        let image = stage.noise("image", 16);
        let served = Served::start(&stage, &image, "", "");
        let (name, uri) = (served.name(), served.uri());
        // It says what it is, and nothing more.
        let silent = ["--filter=delay", "memory", "16M", "delay-write=600", "delay-zero=600"];
        let server = Server::nbdkit(&theirs, &silent);
        let target = format!("nbd={},format=raw", server.uri());
        block(&[kind, name, "d0", "--target", &target, "--job", kind]);
        // A backup has to copy what is about to be written first.
        let mut writing = std::process::Command::new("qemu-io");
        writing.args(["-f", "raw", "-c", "write -P 3 1M 64k", &uri]);
        let mut writing = writing.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        block(&["job", "cancel", name, kind]);
        assert!(writing.wait().unwrap().success(), "{kind}: the write failed");
        no_job_is_left(name);
        succeed("qemu-io", &["-f", "raw", "-c", "read -P 3 1M 64k", &uri]);
        // The graph is free for others.
        let copy = stage.path("copy");
        let target = format!("path={},format=raw", copy.display());
        block(&["backup", name, "d0", "--target", &target, "--wait"]);
        same(&image, &copy);
        assert!(served.end().0, "{kind}");
    }
}

#[test]
fn a_mirror_that_is_ready_leaves_a_server_that_falls_silent_when_it_is_cancelled_again() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    let server = Server::nbdkit(&theirs, &["memory", "4M"]);
    let (name, uri) = (served.name(), served.uri());
    let target = format!("nbd={},format=raw", server.uri());
    block(&["mirror", name, "d0", "--target", &target, "--job", "m", "--wait"]);
    server.silence();
    succeed("qemu-io", &["-f", "raw", "-c", "write -P 3 1M 64k", &uri]);
    // The first time it means to leave a whole copy behind.
    block(&["job", "cancel", name, "m"]);
    block(&["job", "cancel", name, "m"]);
    no_job_is_left(name);
    succeed("qemu-io", &["-f", "raw", "-c", "read -P 3 1M 64k", &uri]);
    assert!(served.end().0);
}

#[test]
fn a_target_that_says_nothing_when_it_is_opened_is_refused() {
    let (stage, theirs, other) = (Stage::new(), Stage::new(), Stage::new());
    let image = stage.noise("image", 16);
    let served = Served::start(&stage, &image, "", "");
    let name = served.name();
    // Connections are taken by the kernel alone.
    let listener = std::os::unix::net::UnixListener::bind(other.path("s")).unwrap();
    let deaf = format!("nbd+unix:///?socket={}", other.path("s").display());
    let (code, said) =
        bulkhead(&["block", "mirror", name, "d0", "--target", &format!("nbd={deaf},format=raw")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("did not finish its handshake"), "{said}");
    drop(listener);
    let server = Server::nbdkit(&theirs, &["--filter=delay", "memory", "32M", "delay-read=600"]);
    let target = format!("nbd={},format=qcow2", server.uri());
    let (code, said) = bulkhead(&["block", "backup", name, "d0", "--target", &target]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("does not answer within 4 seconds"), "{said}");
    let overlay = format!("d0,path={}", stage.path("overlay").display());
    block(&["snapshot", name, "--disk", &overlay]);
    assert!(served.end().0);
}

#[test]
fn a_disk_that_has_moved_to_a_server_with_larger_blocks_outlives_its_block_layer() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    let large = [
        "--filter=blocksize-policy",
        "memory",
        "4M",
        "blocksize-minimum=4096",
        "blocksize-preferred=4096",
        "blocksize-maximum=64K",
        "blocksize-error-policy=error",
    ];
    let server = Server::nbdkit(&theirs, &large);
    let (name, uri) = (served.name(), served.uri());
    let target = format!("nbd={},format=raw", server.uri());
    block(&["mirror", name, "d0", "--target", &target, "--job", "m", "--wait"]);
    block(&["job", "complete", name, "m"]);
    no_job_is_left(name);
    for (at, pattern) in [("512", "5"), ("7680", "6")] {
        let write = format!("write -P {pattern} {at} 512");
        succeed("qemu-io", &["-f", "raw", "-c", &write, "-c", "flush", &uri]);
        served.kill("block-layer");
    }
    let checks = ["read -P 5 512 512", "read -P 6 7680 512"];
    succeed("qemu-io", &["-f", "raw", "-c", checks[0], "-c", checks[1], &uri]);
    let back = stage.path("back");
    succeed("nbdcopy", &[&uri, text(&back)]);
    let mut expected = std::fs::read(&image).unwrap();
    expected[512..1024].fill(5);
    expected[7680..8192].fill(6);
    assert!(expected == std::fs::read(&back).unwrap(), "the rest was not kept");
    assert!(served.end().0);
}
