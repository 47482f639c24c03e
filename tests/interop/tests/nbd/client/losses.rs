//! Servers and block layers that die in the middle of something.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
