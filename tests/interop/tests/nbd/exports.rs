//! Exports that come and go while others are used.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::rig::{Served, Stage, fail, same, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn uri(socket: &Path) -> String {
    format!("nbd+unix:///d0?socket={}", socket.display())
}

/// A client that stays until it is killed.
fn client(uri: &str) -> Child {
    let mut command = Command::new("qemu-io");
    command.args(["-r", "-f", "raw", uri]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("qemu-io starts");
    // It has connected when it prompts.
    let mut first = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).expect("a prompt");
    child
}

#[test]
fn an_export_comes_and_goes_and_the_first_one_never_notices() {
    let stage = Stage::new();
    let (noise, image) = (stage.noise("noise", 16), stage.empty("image", 16));
    let served = Served::start(&stage, &image, "", "");
    let (block, second) = (served.block(), stage.path("second.sock"));
    let export = format!("nbd,disk=d0,id=more,socket={},readonly", second.display());
    assert_eq!(block.run(&["export", "add"], &[&export]).expect("an export").trim(), "more");
    let listed = block.run(&["export", "list"], &[]).unwrap();
    assert!(listed.contains("d0 ") && listed.contains("more "), "{listed}");
    succeed("nbdcopy", &[text(&noise), &served.uri()]);
    let back = stage.path("back");
    succeed("nbdcopy", &[&uri(&second), text(&back)]);
    same(&noise, &back);
    fail("nbdcopy", &[text(&noise), &uri(&second)]);
    let twice = block.run(&["export", "add"], &[&export]).unwrap_err();
    assert!(twice.contains("an export has this name"), "{twice}");
    // In use.
    let mut user = client(&uri(&second));
    let used = block.run(&["export", "remove"], &["more"]).unwrap_err();
    assert!(used.contains("1 client") && used.contains("--force"), "{used}");
    assert!(second.exists());
    block.run(&["export", "remove"], &["more", "--force"]).expect("its end");
    assert!(!second.exists());
    assert_eq!(served.all("nbd-server").len(), 1);
    let _ = user.kill();
    let _ = user.wait();
    let none = block.run(&["export", "remove"], &["more"]).unwrap_err();
    assert!(none.contains("no such export"), "{none}");
    // The first one's client is still there; its export can go as well.
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&noise, &back);
    block.run(&["export", "remove"], &["d0"]).expect("the last one's end");
    assert!(!served.socket().exists());
    block.run(&["export", "add"], &[&export]).expect("the first again");
    succeed("nbdcopy", &[&uri(&second), text(&back)]);
    same(&noise, &back);
    assert!(served.end().0);
    assert!(!second.exists());
}

#[test]
fn a_disk_without_exports_outlives_its_block_layer_and_gets_exports_again() {
    let stage = Stage::new();
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    served.block().run(&["export", "remove"], &["d0"]).expect("the only one's end");
    for _ in 0..2 {
        served.kill("block-layer");
    }
    let export = format!("nbd,disk=d0,socket={}", served.socket().display());
    served.block().insist(&["export", "add"], &[&export]).expect("an export");
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&image, &back);
    assert!(served.end().0);
}

#[test]
fn an_export_that_cannot_be_had_leaves_nothing_behind() {
    let stage = Stage::new();
    let image = stage.empty("image", 1);
    let served = Served::start(&stage, &image, "", "");
    let block = served.block();
    let socket = stage.path("s.sock");
    std::fs::create_dir(stage.path("pki")).unwrap();
    for file in ["server-cert.pem", "server-key.pem", "ca-cert.pem"] {
        std::fs::write(stage.path("pki").join(file), "no certificate").unwrap();
    }
    let pki = stage.path("pki");
    let tls = format!("nbd,disk=d0,socket={},tls-creds={}", socket.display(), pki.display());
    for (export, reason) in [
        (format!("nbd,disk=d9,socket={}", socket.display()), "no such disk"),
        (format!("nbd,disk=d0,socket={}", served.socket().display()), "another program listens"),
        (format!("nbd,disk=d0,socket={}", image.display()), "no socket"),
        (format!("nbd,disk=d0,socket={}/s", stage.path("none").display()), "no such"),
        (tls, "ertificate"),
    ] {
        let complaint = block.run(&["export", "add"], &[&export]).unwrap_err();
        assert!(complaint.contains(reason), "{export}: {complaint}");
        assert!(!socket.exists(), "{export}");
        assert_eq!(served.all("nbd-server").len(), 1, "{export}");
    }
    for more in 2..=8 {
        let export =
            format!("nbd,disk=d0,socket={}", stage.path(&format!("{more}.sock")).display());
        let name = block.run(&["export", "add"], &[&export]).expect("room");
        assert_eq!(name.trim(), format!("d0-{more}"));
    }
    let export = format!("nbd,disk=d0,socket={}", socket.display());
    let full = block.run(&["export", "add"], &[&export]).unwrap_err();
    assert!(full.contains("at most 8"), "{full}");
    assert!(served.end().0);
}

#[test]
fn an_export_on_a_port_takes_clients_too() {
    let stage = Stage::new();
    let image = stage.noise("image", 1);
    let served = Served::start(&stage, &image, "", "");
    for (address, host) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]")] {
        let probe = std::net::TcpListener::bind(format!("{address}:0")).expect("a port");
        let port = probe.local_addr().unwrap().port();
        let export = format!("nbd,disk=d0,id=tcp,addr={address}:{port},readonly");
        let taken = served.block().run(&["export", "add"], &[&export]).unwrap_err();
        assert!(taken.contains("choose another port"), "{taken}");
        drop(probe);
        served.block().run(&["export", "add"], &[&export]).expect("an export");
        let back = stage.path("back");
        succeed("nbdcopy", &[&format!("nbd://{host}:{port}/d0"), text(&back)]);
        same(&image, &back);
        served.block().run(&["export", "remove"], &["tcp"]).expect("its end");
        fail("nbdinfo", &[&format!("nbd://{host}:{port}/d0")]);
    }
    assert!(served.end().0);
}

/// Exports are added and removed while another one's client writes and both kinds of processes die.
#[test]
fn exports_come_and_go_while_processes_die() {
    let stage = Stage::new();
    let (noise, image) = (stage.noise("noise", 48), stage.empty("image", 48));
    let served = Served::start(&stage, &image, ",delay=2", "");
    let (block, second) = (served.block(), stage.path("second.sock"));
    let export = format!("nbd,disk=d0,id=more,socket={}", second.display());
    let mut rounds = 0;
    let mut copy = Command::new("nbdcopy")
        .args(["--request-size=65536", text(&noise), &served.uri()])
        .stdin(Stdio::null())
        .spawn()
        .expect("nbdcopy starts");
    while copy.try_wait().expect("a status").is_none() || rounds < 8 {
        block.insist(&["export", "add"], &[&export]).expect("an export");
        let mut user = (rounds % 2 == 0).then(|| client(&uri(&second)));
        let victims = served.all(if rounds % 3 == 0 { "nbd-server" } else { "block-layer" });
        let victim = victims.iter().find(|process| process.id != "d0" || rounds % 3 != 0);
        let _ = victim.map(|process| process.signal(nix::sys::signal::Signal::SIGKILL));
        if let Err(complaint) = block.run(&["export", "remove"], &["more", "--force"]) {
            panic!("round {rounds}: {complaint}");
        }
        assert!(!second.exists());
        if let Some(user) = &mut user {
            let _ = user.kill();
            let _ = user.wait();
        }
        rounds += 1;
    }
    assert!(copy.wait().expect("a status").success(), "the copy failed");
    println!("{rounds} rounds");
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&noise, &back);
    assert!(served.end().0);
}
