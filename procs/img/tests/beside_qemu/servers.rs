//! Images on NBD servers: QEMU's serves them, and what comes of each command is what comes of it on files.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::program::{must, ours};
use super::run::{facts, raw_disk, theirs};

/// Longest that a server may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of one image, as long as it is kept.
struct Server(Child);

impl Server {
    /// `None` where there is no qemu-nbd.
    fn begin(folder: &Path, image: &str, format: &str, options: &[&str]) -> Option<Self> {
        let socket = folder.join(format!("{image}.sock"));
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "4", "-x", "disk", "-f", format, "-k"]).arg(&socket);
        command.args(options).arg(folder.join(image)).stderr(Stdio::inherit());
        let server = Self(command.spawn().ok()?);
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < PATIENCE, "qemu-nbd does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn uri(folder: &Path, image: &str) -> String {
    format!("nbd+unix:///disk?socket={}", folder.join(format!("{image}.sock")).display())
}

#[test]
fn an_export_is_read_as_its_file_would_be() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    let Some(_server) = Server::begin(dir, "disk.raw", "raw", &["-r"]) else {
        eprintln!("skipped: there is no qemu-nbd");
        return;
    };
    let uri = uri(dir, "disk.raw");
    let info = facts(&must(&["info", "-f", "raw", "--output=json", &uri], dir));
    assert_eq!(
        (&info["virtual-size"], &info["filename"]),
        (&(5 << 20).into(), &uri.as_str().into())
    );
    assert!(info.get("actual-size").is_none());
    let map = facts(&must(&["map", "-f", "raw", "--output=json", &uri], dir));
    let theirs_map = theirs(&["map", "--image-opts", "--output=json", &image_opts(&uri)], dir);
    assert_eq!(map, facts(&theirs_map.expect("qemu-img")));
    for (format, target) in [("raw", "copy.raw"), ("qcow2", "copy.q")] {
        must(&["convert", "-f", "raw", "-O", format, &uri, target], dir);
        must(&["compare", "-f", "raw", "-F", format, &uri, target], dir);
        theirs(&["compare", "-f", "raw", "-F", format, "disk.raw", target], dir);
    }
    let dd = ["dd", "-f", "raw", "bs=1k", "skip=100", "count=1000", "of=part.raw"];
    must(&[&dd[..], &[&format!("if={uri}")]].concat(), dir);
    let (disk, part) = (std::fs::read(dir.join("disk.raw")), std::fs::read(dir.join("part.raw")));
    assert!(disk.expect("a disk")[102_400..1_126_400] == part.expect("a part"));
    let measure =
        |disk| facts(&must(&["measure", "-O", "qcow2", "--output=json", "-f", "raw", disk], dir));
    assert_eq!(measure(&uri), measure("disk.raw"));
    must(&["bench", "-f", "raw", "-c", "200", "-d", "8", &uri], dir);
    // An image that lies there, and one whose backing file does.
    must(&["create", "-q", "-f", "qcow2", "-b", &uri, "-F", "raw", "top.q", "5M"], dir);
    let backing = format!("--backing=raw:{uri}");
    must(&["compare", "-f", "qcow2", "-F", "raw", &backing, "top.q", "disk.raw"], dir);
    let written = ours(&["convert", "-n", "-f", "raw", "-O", "raw", "disk.raw", &uri], dir);
    let said = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(written.status.code() == Some(1) && said.contains("read-only"), "{said}");
}

/// The same as QEMU takes it, which has no other way to name a format of a URI.
fn image_opts(uri: &str) -> String {
    let socket = uri.split_once('=').expect("a socket").1;
    format!(
        "driver=raw,file.driver=nbd,file.export=disk,file.server.type=unix,file.server.path={socket}"
    )
}

#[test]
fn an_export_becomes_the_disk_and_what_it_held_is_gone() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    raw_disk(dir);
    std::fs::write(dir.join("old.raw"), vec![9; 5 << 20]).expect("a file");
    std::fs::write(dir.join("small.raw"), vec![9; 1 << 20]).expect("a file");
    let Some(_server) = Server::begin(dir, "old.raw", "raw", &[]) else {
        eprintln!("skipped: there is no qemu-nbd");
        return;
    };
    let uri_of = |name| uri(dir, name);
    for existing in [&["-n"][..], &[]] {
        let convert = ["convert", "-f", "raw", "-O", "raw", "disk.raw"];
        must(&[&convert[..1], existing, &convert[1..], &[&uri_of("old.raw")]].concat(), dir);
        theirs(&["compare", "-f", "raw", "-F", "raw", "disk.raw", "old.raw"], dir);
    }
    let _small = Server::begin(dir, "small.raw", "raw", &[]).expect("another");
    let small = ours(&["convert", "-f", "raw", "-O", "raw", "disk.raw", &uri_of("small.raw")], dir);
    let said = String::from_utf8_lossy(&small.stderr).into_owned();
    assert!(small.status.code() == Some(1) && said.contains("room for 1048576 bytes"), "{said}");
    assert!(std::fs::read(dir.join("small.raw")).expect("a file").iter().all(|byte| *byte == 9));
    let nobody = ours(&["info", "-f", "raw", &uri_of("nobody")], dir);
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!((nobody.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    let unknown = uri_of("old.raw").replace("/disk?", "/other?");
    let unknown = ours(&["info", "-f", "raw", &unknown], dir);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!((unknown.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    let plain = ours(&["info", "-f", "raw", "nbds://localhost/disk"], dir);
    assert!(String::from_utf8_lossy(&plain.stderr).contains("add --tls-creds"));
}
