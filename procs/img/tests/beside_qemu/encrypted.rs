//! LUKS volumes and encrypted images: each command reads what the other has written.

use std::path::Path;

use tempfile::TempDir;

use super::program::{must, ours};
use super::run::{facts, qemu, raw_disk, same_disk, theirs};

const SECRET: &str = "secret,id=s,file=key";

/// Key and disk; `false`: there is no qemu-img.
fn begin(dir: &Path) -> bool {
    raw_disk(dir);
    std::fs::write(dir.join("key"), "open sesame\n").expect("a key");
    std::fs::write(dir.join("wrong"), "open sesame").expect("a key");
    let there = qemu(&["--version"], dir).is_some();
    if !there {
        eprintln!("skipped: there is no qemu-img");
    }
    there
}

/// What QEMU reads as a disk of this driver.
fn opts(driver: &str, image: &str) -> String {
    let key = if driver == "luks" { "key-secret=s" } else { "encrypt.key-secret=s" };
    format!("driver={driver},{key},file.driver=file,file.filename={image}")
}

#[test]
fn what_one_encrypts_the_other_reads() {
    for format in ["luks", "qcow2"] {
        let dir = TempDir::new().expect("a folder");
        let dir = dir.path();
        if !begin(dir) {
            return;
        }
        let to = ["convert", "-f", "raw", "-O", format, "--target-key-secret=key"];
        must(&[&to[..], &["disk.raw", "ours"]].concat(), dir);
        let compare = ["compare", "--object", SECRET, "--image-opts", &opts(format, "ours")];
        theirs(
            &[&compare[..], &["driver=raw,file.driver=file,file.filename=disk.raw"]].concat(),
            dir,
        );
        let bytes = std::fs::read(dir.join("ours")).expect("an image");
        assert!(!bytes.windows(64).any(|piece| piece.iter().all(|byte| *byte == 7)), "it is plain");
        if format == "qcow2" {
            must(&["check", "-q", "-f", "qcow2", "ours"], dir);
            let check = ["check", "-q", "--object", SECRET, "--image-opts", &opts(format, "ours")];
            theirs(&check, dir);
        }
        let options = match format {
            "luks" => "key-secret=s,iter-time=50",
            _ => "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=50",
        };
        let made = ["convert", "--object", SECRET, "-f", "raw", "-O", format, "-o", options];
        // It measures the processor first, and gives up where others keep that busy.
        let make = || qemu(&[&made[..], &["disk.raw", "theirs"]].concat(), dir);
        let made = (0..20).any(|_| make().is_some_and(|made| made.status.success()));
        assert!(made, "qemu-img makes no {format}");
        same_disk(&["-f", format, "--key-secret=key", "-F", "raw", "theirs", "disk.raw"], dir);
        let both = ["compare", "-f", format, "--key-secret=key", "-F", format];
        must(&[&both[..], &["--second-key-secret=key", "theirs", "ours"]].concat(), dir);
        must(
            &["convert", "-f", format, "--key-secret=key", "-O", "raw", "theirs", "plain.raw"],
            dir,
        );
        theirs(&["compare", "-f", "raw", "-F", "raw", "disk.raw", "plain.raw"], dir);
        let ours_info = facts(&must(&["info", "-f", format, "--output=json", "theirs"], dir));
        let mut info =
            facts(&theirs(&["info", "-f", format, "--output=json", "theirs"], dir).expect("it"));
        info["actual-size"] = ours_info["actual-size"].clone();
        assert_eq!(ours_info, info);
        let ours_info = must(&["info", "-f", format, "theirs"], dir);
        assert_eq!(Some(ours_info), theirs(&["info", "-f", format, "theirs"], dir));
    }
}

#[test]
fn an_encrypted_disk_is_made_and_grows() {
    for format in ["luks", "qcow2"] {
        let dir = TempDir::new().expect("a folder");
        let dir = dir.path();
        if !begin(dir) {
            return;
        }
        must(&["create", "-q", "-f", format, "--key-secret=key", "disk", "2M"], dir);
        must(&["resize", "-q", "-f", format, "--key-secret=key", "disk", "+3M"], dir);
        let info = facts(&must(&["info", "-f", format, "--output=json", "disk"], dir));
        assert_eq!((&info["virtual-size"], &info["encrypted"]), (&(5 << 20).into(), &true.into()));
        let fill = ["convert", "-n", "-f", "raw", "-O", format, "--target-key-secret=key"];
        must(&[&fill[..], &["disk.raw", "disk"]].concat(), dir);
        same_disk(&["-f", format, "--key-secret=key", "-F", "raw", "disk", "disk.raw"], dir);
        for (arguments, says) in [
            (&["--key-secret=wrong"][..], "newline"),
            (&[][..], "--key-secret"),
            (&["--key-secret=missing"], "missing"),
        ] {
            let map = [&["map", "-f", format][..], arguments, &["disk"]].concat();
            let output = ours(&map, dir);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
            assert!(said.contains(says), "{said}");
        }
        let surplus = ours(&["map", "-f", "raw", "--key-secret=key", "disk.raw"], dir);
        assert!(String::from_utf8_lossy(&surplus.stderr).contains("not encrypted"));
    }
}
