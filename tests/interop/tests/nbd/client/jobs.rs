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
