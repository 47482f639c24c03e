//! What cannot be served is said in one line, with option, value and remedy, and exit status 2.

use super::{Server, run, text};
use crate::rig::Stage;

/// Tries to serve such a disk: what it complains of.
pub fn refused(disk: &str) -> String {
    let stage = Stage::new();
    let bulkhead = bulkhead_harness::programs::folder().join("bulkhead");
    let export = format!("nbd,disk=d0,socket={}", stage.path("s").display());
    let name = format!("refused-{}-{}", std::process::id(), disk.len());
    let disk = format!("id=d0,{disk}");
    let arguments = ["storage", "--name", &name, "--disk", &disk, "--export", &export];
    let output = run(text(&bulkhead), &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{disk}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// What stands behind the name of an option for the so-and-so-many-th layer.
fn number(layer: u32) -> String {
    if layer == 1 { String::new() } else { layer.to_string() }
}

#[test]
fn what_is_wrong_is_said() {
    let theirs = Stage::new();
    let server = Server::nbdkit(
        &theirs,
        &["--filter=exportname", "memory", "1M", "exportname=a", "exportname-strict=true"],
    );
    let there = server.uri();
    let named = there.replace("///", "///a");
    let nobody = format!("nbd+unix:///?socket={}", theirs.path("nobody").display());
    drop(std::os::unix::net::UnixListener::bind(theirs.path("gone")).unwrap());
    let gone = format!("nbd+unix:///?socket={}", theirs.path("gone").display());
    for (uri, reason) in [
        ("nbd:localhost:10809", "no URI"),
        ("nbd://localhost:99999/", "no port"),
        ("nbd+vsock://2/", "no scheme"),
        ("nbd://there.is.no.such.host.invalid/", "nobody knows"),
        ("nbds://localhost/", "tls-creds"),
        ("nbd://127.0.0.1:1/", "nobody answers there"),
        (&nobody, "no such file"),
        (&gone, "nobody answers there"),
        (&there.replace("///", "///other"), "no export 'other'"),
    ] {
        let said = refused(&format!("nbd={uri},format=raw"));
        assert!(said.contains(reason), "{uri}: {said}");
        assert!(said.contains("--disk"), "{said}");
    }
    for (keys, reason) in [
        ("", "'format' is missing"),
        (",format=raw,cache=none", "'cache' is of a file"),
        (",format=raw,path=/a", "'path' is of a file"),
        (",format=raw,tls-hostname=x", "tls-creds=DIR"),
        (",format=raw,connections=17", "connections"),
        (",format=qcow2", "qcow2"),
    ] {
        let said = refused(&format!("nbd={named}{keys}"));
        assert!(said.contains(reason), "{keys}: {said}");
    }
    // Five servers at sixteen connections each.
    let below = |n: u32| format!(",backing{}={named},backing{}-format=qcow2", number(n), number(n));
    let chain: String = (1..=4).map(below).collect();
    let said = refused(&format!("nbd={named},format=qcow2{chain},connections=16"));
    assert!(said.contains("80 connections") && said.contains("64 are the most"), "{said}");
    let said = refused("path=/dev/null,format=raw,reconnect-delay=3");
    assert!(said.contains("does not go with"), "{said}");
}

#[test]
fn an_export_that_is_only_read_is_not_written() {
    let theirs = Stage::new();
    let image = theirs.noise("image", 1);
    let server = Server::qemu(&theirs, &image, "raw", &["--read-only"]);
    let said = refused(&format!("nbd={},format=raw", server.uri()));
    assert!(said.contains("add readonly"), "{said}");
    let said =
        refused(&format!("nbd={},format=raw,readonly", server.uri().replace("///q", "///x")));
    assert!(said.contains("no export 'x'"), "{said}");
}
