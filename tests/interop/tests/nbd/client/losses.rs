//! Servers and block layers that die in the middle of something.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_harness::programs;

use super::{Server, serve, text};
use crate::rig::{Served, Stage, fail, same, succeed};

/// Most kills during one copy: it comes to its end however slow the machine is.
const MOST_KILLS: u32 = 40;

/// A copy under way.
fn copy(from: &str, to: &str) -> Child {
    let mut command = Command::new("nbdcopy");
    command.args(["--flush", "--request-size=65536", from, to]).stdin(Stdio::null());
    command.spawn().expect("nbdcopy starts")
}

#[test]
fn when_the_server_dies_requests_wait_for_the_next_one_and_nothing_is_lost() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let (noise, image) = (stage.noise("noise", 48), theirs.empty("image", 48));
    let arguments = ["--filter=delay", "file", text(&image), "wdelay=5ms"];
    let mut server = Server::nbdkit(&theirs, &arguments);
    let served = serve(&stage, &server.uri(), ",reconnect-delay=60");
    let mut copying = copy(text(&noise), &served.uri());
    let mut kills = 0;
    while copying.try_wait().expect("a status").is_none() && kills < 8 {
        std::thread::sleep(Duration::from_millis(150));
        server.kill();
        std::thread::sleep(Duration::from_millis(50));
        server.again();
        kills += 1;
    }
    assert!(copying.wait().expect("a status").success(), "the copy failed");
    assert!(kills > 0);
    same(&noise, &image);
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&noise, &back);
    assert!(served.end().0);
}

#[test]
fn when_the_block_layer_dies_its_successor_goes_on() {
    for delay in ["wdelay=0", "wdelay=20ms"] {
        let (stage, theirs) = (Stage::new(), Stage::new());
        let (noise, image) = (stage.noise("noise", 32), theirs.empty("image", 32));
        let mut server = Server::nbdkit(&theirs, &["--filter=delay", "file", text(&image), delay]);
        let served = serve(&stage, &server.uri(), ",reconnect-delay=60");
        let mut copying = copy(text(&noise), &served.uri());
        let mut kills = 0;
        while copying.try_wait().expect("a status").is_none() {
            if kills < MOST_KILLS {
                served.kill("block-layer");
                kills += 1;
            }
            server.revive();
            // A successor that dies before its first request is over gets nowhere.
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(copying.wait().expect("a status").success(), "{delay}: the copy failed");
        assert!(kills > 0);
        same(&noise, &image);
        assert!(served.end().0);
    }
}

#[test]
fn a_server_that_stays_away_costs_errors_until_it_is_back() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let image = theirs.noise("image", 4);
    let mut server = Server::nbdkit(&theirs, &["file", text(&image)]);
    let served = serve(&stage, &server.uri(), ",reconnect-delay=1");
    server.kill();
    let said = fail("qemu-io", &["-f", "raw", "-c", "read 0 4k", &served.uri()]);
    assert!(said.contains("Input/output error"), "{said}");
    // While it is away the block layer may be replaced: the disk is known.
    served.kill("block-layer");
    server.again();
    let back = stage.path("back");
    // Requests fail at once until the next try of the supervisor.
    let copied = |served: &Served| {
        let back = back.to_str().expect("text");
        Command::new("nbdcopy").args([&served.uri(), back]).status().expect("nbdcopy")
    };
    let start = std::time::Instant::now();
    while !copied(&served).success() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came back");
        std::thread::sleep(Duration::from_millis(100));
    }
    same(&image, &back);
    assert!(served.end().0);
}

/// An image of a format in a file of 48 MiB, and the keys with which it is served.
fn formatted(theirs: &Stage, format: &str) -> (std::path::PathBuf, String) {
    let image = theirs.path("image");
    let secret = theirs.path("secret");
    std::fs::write(&secret, "open sesame").expect("room");
    let object = format!("secret,id=s,file={}", secret.display());
    let key = ["--object", &object, "-o", "key-secret=s,iter-time=10"];
    let (more, keys): (&[&str], _) = match format {
        "luks" => (&key, format!(",format=luks,key-secret={}", secret.display())),
        _ => (&[], ",format=qcow2".to_owned()),
    };
    let made = [&["create", "-q", "-f", format], more, &[text(&image), "16M"]].concat();
    succeed("qemu-img", &made);
    if format == "qcow2" {
        // An export does not grow: there is room from the beginning.
        let file = std::fs::OpenOptions::new().write(true).open(&image).expect("the image");
        file.set_len(48 << 20).expect("room");
    }
    (image, keys)
}

#[test]
fn a_disk_with_a_format_waits_for_its_server_when_its_block_layer_dies_as_well() {
    for format in ["qcow2", "luks"] {
        let (stage, theirs) = (Stage::new(), Stage::new());
        let (image, keys) = formatted(&theirs, format);
        let mut server = Server::qemu(&theirs, &image, "raw", &[]);
        let served = serve(&stage, &server.uri(), &format!("{keys},reconnect-delay=2"));
        let mut listener = programs::bulkhead();
        let listener = listener.args(["events", served.name()]).stdout(Stdio::piped()).spawn();
        let listener = listener.expect("bulkhead starts");
        std::thread::sleep(Duration::from_millis(300));
        let before = ["-f", "raw", "-c", "write -P 7 0 1M"];
        succeed("qemu-io", &[&before[..], &[&served.uri()]].concat());
        server.kill();
        let dead = served.strike("block-layer");
        // Longer than five deaths take, and longer than requests wait for a server by themselves.
        let mut writing = Command::new("qemu-io");
        writing.args(["-f", "raw", "-c", "write -P 9 1M 64k", "-c", "flush", &served.uri()]);
        let mut writing =
            writing.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("qemu-io");
        std::thread::sleep(Duration::from_secs(4));
        assert!(writing.try_wait().expect("a status").is_none(), "{format}: nobody was waited for");
        let waiting = served.process("block-layer");
        assert_ne!(waiting.state, "degraded", "{format}");
        assert!(waiting.restarts > dead.restarts, "{format}: {waiting:?}");
        server.again();
        assert!(writing.wait().expect("a status").success(), "{format}: the write failed");
        let read = ["-f", "raw", "-c", "read -P 7 0 1M", "-c", "read -P 9 1M 64k"];
        succeed("qemu-io", &[&read[..], &[&served.uri()]].concat());
        assert!(served.end().0);
        let events = listener.wait_with_output().expect("its output").stdout;
        let events = String::from_utf8_lossy(&events);
        for (kind, times) in [("server-lost", 1), ("server-back", 1), ("helper-died", 1)] {
            assert_eq!(events.matches(kind).count(), times, "{format}: {kind} in {events}");
        }
        drop(server);
        if format == "qcow2" {
            succeed("qemu-img", &["check", "-q", "-f", "qcow2", text(&image)]);
        }
    }
}
