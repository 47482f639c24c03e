//! Our client at other people's NBD servers, and at ours: a disk of `bulkhead storage` that lies on one,
//! exported again so that other people's clients can look at it.

mod jobs;
mod losses;
mod refusals;
mod servers;

use std::path::Path;

use crate::rig::{Served, Stage, run, same, succeed};
use crate::tls::certificates;
use servers::Server;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A disk on this server, exported.
fn serve(stage: &Stage, uri: &str, more: &str) -> Served {
    let format = if more.contains("format=") { "" } else { ",format=raw" };
    Served::of(stage, &format!("nbd={uri}{format}{more}"), "", &[])
}

/// Hundredths of a second that a process has run (proc(5): `utime` and `stime` of `stat`).
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Copies noise into the disk and back.
fn there_and_back(stage: &Stage, served: &Served, noise: &Path) {
    let back = stage.path("back");
    succeed("nbdcopy", &["--flush", text(noise), &served.uri()]);
    succeed("nbdcopy", &["--connections=4", &served.uri(), text(&back)]);
    same(noise, &back);
}

#[test]
fn a_disk_on_each_kind_of_server_is_read_and_written() {
    for kind in ["nbdkit", "nbdkit without extras", "qemu-nbd", "bulkhead"] {
        let (stage, theirs) = (Stage::new(), Stage::new());
        let (noise, image) = (stage.noise("noise", 24), theirs.empty("image", 24));
        let (_process, uri): (Box<dyn std::any::Any>, String) = match kind {
            "nbdkit" => Server::boxed(Server::nbdkit(&theirs, &["file", text(&image)])),
            "nbdkit without extras" => {
                let file = format!("file={}", image.display());
                let less = ["--no-sr", "--filter=nozero", "--filter=noextents", "file", &file];
                Server::boxed(Server::nbdkit(&theirs, &less))
            }
            "qemu-nbd" => Server::boxed(Server::qemu(&theirs, &image, "raw", &[])),
            _ => {
                let served = Served::start(&theirs, &image, "", "");
                let uri = served.uri();
                (Box::new(served), uri)
            }
        };
        let served = serve(&stage, &uri, "");
        there_and_back(&stage, &served, &noise);
        same(&noise, &image);
        succeed("qemu-io", &["-f", "raw", "-c", "write -z 1M 2M", "-c", "flush", &served.uri()]);
        succeed("qemu-io", &["-U", "-r", "-f", "raw", "-c", "read -P 0 1M 2M", text(&image)]);
        succeed("qemu-io", &["-f", "raw", "-c", "discard 8M 4M", &served.uri()]);
        assert!(served.end().0, "{kind}");
    }
}

#[test]
fn what_a_server_knows_of_holes_comes_through() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let server = Server::nbdkit(&theirs, &["memory", "8M"]);
    let served = serve(&stage, &server.uri(), "");
    succeed("qemu-io", &["-f", "raw", "-c", "write -P 7 2M 1M", &served.uri()]);
    let map = succeed("nbdinfo", &["--map", &served.uri()]);
    let extents: Vec<Vec<&str>> =
        map.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let mega = |n: u64| (n << 20).to_string();
    let expected = [(0, 2, "3"), (2, 1, "0"), (3, 5, "3")];
    for ((start, len, kind), extent) in expected.iter().zip(&extents) {
        assert_eq!(extent[..], [mega(*start).as_str(), &mega(*len), kind], "{map}");
    }
    assert!(served.end().0);
}

#[test]
fn servers_with_blocks_of_their_own_get_whole_ones() {
    for (least, most) in [("1", "4096"), ("4096", "64K")] {
        let (stage, theirs) = (Stage::new(), Stage::new());
        let noise = stage.noise("noise", 2);
        let (least, most) =
            (format!("blocksize-minimum={least}"), format!("blocksize-maximum={most}"));
        let policy = [
            "--filter=blocksize-policy",
            "memory",
            "2M",
            &least,
            "blocksize-preferred=4096",
            &most,
            "blocksize-error-policy=error",
        ];
        let server = Server::nbdkit(&theirs, &policy);
        let served = serve(&stage, &server.uri(), "");
        there_and_back(&stage, &served, &noise);
        assert!(served.end().0);
    }
}

#[test]
fn an_image_with_a_format_lies_on_a_server_and_so_does_what_is_below_one() {
    let (stage, theirs, below) = (Stage::new(), Stage::new(), Stage::new());
    let (image, base) = (theirs.path("image"), below.noise("base", 8));
    // A server's export does not grow: there is room from the beginning.
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", text(&image), "8M"]);
    let grown = std::fs::OpenOptions::new().write(true).open(&image).unwrap();
    grown.set_len(32 << 20).unwrap();
    let server = Server::qemu(&theirs, &image, "raw", &[]);
    let served = serve(&stage, &server.uri(), ",format=qcow2");
    there_and_back(&stage, &served, &stage.noise("noise", 8));
    assert!(served.end().0);
    drop(server);
    succeed("qemu-img", &["check", "-q", "-f", "qcow2", text(&image)]);

    let server = Server::nbdkit(&below, &["-r", "file", text(&base)]);
    let top = stage.path("top");
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", text(&top), "8M"]);
    let backing = format!(",format=qcow2,backing={},backing-format=raw", server.uri());
    let served = Served::start(&stage, &top, &backing, "");
    let back = stage.path("from below");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&base, &back);
    succeed("qemu-io", &["-f", "raw", "-c", "write -P 9 4k 4k", &served.uri()]);
    succeed("qemu-io", &["-f", "raw", "-c", "read -P 9 4k 4k", &served.uri()]);
    assert!(served.end().0);
}

#[test]
fn a_disk_is_carried_in_tls_and_a_stranger_is_refused() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    certificates(&theirs);
    let noise = stage.noise("noise", 4);
    std::fs::create_dir(theirs.path("stranger")).unwrap();
    std::fs::copy(theirs.path("stranger.pem"), theirs.path("stranger/ca-cert.pem")).unwrap();
    let folder = format!("--tls-certificates={}", theirs.path("server").display());
    let server = Server::nbdkit(&theirs, &["--tls=require", &folder, "memory", "4M"]);
    let secure = server.uri().replace("nbd+", "nbds+");
    let credentials = |folder: &str| format!(",tls-creds={}", theirs.path(folder).display());
    let served = serve(&stage, &secure, &credentials("client"));
    there_and_back(&stage, &served, &noise);
    // Connections on which nothing happens cost nothing.
    let before = ticks(served.process("block-layer").pid);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let spent = ticks(served.process("block-layer").pid) - before;
    assert!(spent <= 10, "{spent} ticks of CPU in two idle seconds");
    assert!(served.end().0);
    for (uri, more, reason) in [
        // An authority of the same name, and so a signature that is not its own.
        (&secure, credentials("stranger"), "invalid peer certificate"),
        (
            &secure,
            format!("{},tls-hostname=elsewhere", credentials("client")),
            "not valid for name",
        ),
        (&server.uri(), String::new(), "it wants TLS"),
    ] {
        let said = refusals::refused(&format!("nbd={uri},format=raw{more}"));
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

#[test]
fn an_audit_finds_what_was_declared() {
    let (stage, theirs) = (Stage::new(), Stage::new());
    let server = Server::nbdkit(&theirs, &["memory", "4M"]);
    let served = serve(&stage, &server.uri(), "");
    there_and_back(&stage, &served, &stage.noise("noise", 4));
    let bulkhead = bulkhead_harness::programs::folder().join("bulkhead");
    let said = succeed(text(&bulkhead), &["audit", served.name()]);
    assert!(said.contains("passes"), "{said}");
    assert!(served.end().0);
}
