//! LUKS volumes of QEMU's, read and written by our block layer, and back.

use std::path::{Path, PathBuf};

use bulkhead_harness::programs;

use crate::rig::{Served, Stage, fail, run, same, succeed};

const PASSPHRASE: &str = "correct horse\n";

/// Ciphers as `qemu-img` names them.
const CIPHERS: [&str; 4] = [
    "cipher-alg=aes-256,hash-alg=sha256",
    "cipher-alg=aes-128,hash-alg=sha1",
    "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha512",
    "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain64",
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn passphrase(stage: &Stage) -> PathBuf {
    let path = stage.path("passphrase");
    std::fs::write(&path, PASSPHRASE).unwrap();
    path
}

/// QEMU measures the processor first, and gives up where others use it as well.
fn insist(arguments: &[&str]) {
    for _ in 0..50 {
        let output = run("qemu-img", arguments);
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("accurate CPU usage"), "{said}");
    }
    panic!("qemu-img cannot measure this processor");
}

fn secret(passphrase: &Path) -> String {
    format!("secret,id=s,file={}", text(passphrase))
}

fn image_options(image: &Path, driver: &str) -> String {
    let key = if driver == "luks" { "key-secret" } else { "encrypt.key-secret" };
    format!("driver={driver},{key}=s,file.filename={}", text(image))
}

/// What QEMU reads.
fn decrypted(stage: &Stage, image: &Path, driver: &str, passphrase: &Path) -> PathBuf {
    let to = stage.path("decrypted");
    let options = image_options(image, driver);
    let object = secret(passphrase);
    let arguments = ["convert", "--object", &object, "--image-opts", &options, "-O", "raw"];
    succeed("qemu-img", &[&arguments[..], &[text(&to)]].concat());
    to
}

#[test]
fn a_volume_of_qemus_is_read_and_written_and_read_by_qemu() {
    for cipher in CIPHERS {
        let stage = Stage::new();
        let (noise, other) = (stage.noise("noise", 3), stage.noise("other", 2));
        let (image, pw) = (stage.path("image"), passphrase(&stage));
        let options = format!("key-secret=s,iter-time=10,{cipher}");
        let object = secret(&pw);
        let arguments = ["convert", "-f", "raw", "-O", "luks", "--object", &object, "-o", &options];
        insist(&[&arguments[..], &[text(&noise), text(&image)]].concat());
        let disk = format!(",format=luks,key-secret={}", text(&pw));
        let served = Served::start(&stage, &image, &disk, "");
        let back = stage.path("back");
        succeed("nbdcopy", &[&served.uri(), text(&back)]);
        same(&noise, &back);
        // The passphrase is needed once: a successor has the key.
        std::fs::remove_file(&pw).unwrap();
        served.kill("block-layer");
        succeed("nbdcopy", &[text(&other), &served.uri()]);
        succeed("qemu-io", &["-f", "raw", "-c", "write -z 2560k 256k", &served.uri()]);
        let expected = stage.path("expected");
        succeed("nbdcopy", &[&served.uri(), text(&expected)]);
        assert!(served.end().0);
        let pw = passphrase(&stage);
        same(&expected, &decrypted(&stage, &image, "luks", &pw));
        let bytes = std::fs::read(&expected).unwrap();
        assert!(bytes[..2 << 20] == std::fs::read(&other).unwrap());
        assert!(bytes[2560 << 10..2816 << 10].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_block_layer_that_is_killed_under_load_loses_nothing_of_a_volume() {
    let stage = Stage::new();
    let (noise, image, pw) = (stage.noise("noise", 32), stage.path("image"), passphrase(&stage));
    let object = secret(&pw);
    let options = "key-secret=s,iter-time=10";
    insist(&[
        "create",
        "-q",
        "-f",
        "luks",
        "--object",
        &object,
        "-o",
        options,
        text(&image),
        "32M",
    ]);
    let served =
        Served::start(&stage, &image, &format!(",format=luks,key-secret={}", text(&pw)), "");
    let mut copy = std::process::Command::new("nbdcopy")
        .args(["--request-size=65536", text(&noise), &served.uri()])
        .spawn()
        .expect("nbdcopy starts");
    let mut kills = 0;
    while copy.try_wait().expect("a status").is_none() {
        served.kill("block-layer");
        kills += 1;
    }
    assert!(copy.wait().expect("a status").success() && kills > 0);
    let back = stage.path("back");
    succeed("nbdcopy", &[&served.uri(), text(&back)]);
    same(&noise, &back);
    assert!(served.end().0);
    same(&noise, &decrypted(&stage, &image, "luks", &pw));
}

#[test]
fn an_encrypted_image_of_qemus_is_read_and_written_and_found_free_of_errors() {
    for (more, cipher) in [("", ""), (",extended_l2=on", ",encrypt.cipher-alg=aes-128")] {
        let stage = Stage::new();
        let base = stage.noise("base", 3);
        let (image, pw) = (stage.path("image"), passphrase(&stage));
        let object = secret(&pw);
        let options =
            format!("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10{cipher}{more}");
        let create = ["create", "-q", "-f", "qcow2", "--object", &object, "-o", &options];
        insist(&[&create[..], &["-F", "raw", "-b", text(&base), text(&image)]].concat());
        let options = image_options(&image, "qcow2");
        let io = ["--object", &object, "--image-opts", &options, "-c", "write -P 7 100k 1000k"];
        succeed("qemu-io", &io);
        let disk = format!(
            ",format=qcow2,key-secret={},backing={},backing-format=raw",
            text(&pw),
            text(&base)
        );
        let served = Served::start(&stage, &image, &disk, "");
        let uri = served.uri();
        let io = |command: &str| succeed("qemu-io", &["-f", "raw", "-c", command, &uri]);
        io("read -P 7 100k 1000k");
        // Pieces of clusters, with what is below around them; zeroes; clusters that come back.
        io("write -P 1 2000k 512");
        io("write -P 2 2500k 100k");
        io("write -z 200k 300k");
        io("discard 512k 256k");
        io("write -P 3 600k 4k");
        io("flush");
        served.kill("block-layer");
        io("write -P 4 1234k 8k");
        let expected = stage.path("expected");
        succeed("nbdcopy", &[&uri, text(&expected)]);
        io("read -P 4 1234k 8k");
        io("read -P 0 200k 300k");
        assert!(served.end().0);
        let checked = ["check", "-q", "--object", &object, "--image-opts", &options];
        succeed("qemu-img", &checked);
        same(&expected, &decrypted(&stage, &image, "qcow2", &pw));
        // Nothing of it is in the file as it is.
        let bytes = std::fs::read(&image).unwrap();
        assert!(!bytes.windows(64).any(|window| window == [2; 64]));
    }
}

#[test]
fn what_does_not_open_is_refused_in_a_line() {
    let stage = Stage::new();
    let (image, pw) = (stage.path("image"), passphrase(&stage));
    let object = secret(&pw);
    let options = "key-secret=s,iter-time=10";
    insist(&["create", "-q", "-f", "luks", "--object", &object, "-o", options, text(&image), "1M"]);
    let refused_as = |format: &str, image: &Path, keys: &str| {
        let disk = format!("id=d0,path={},format={format}{keys}", text(image));
        let socket = format!("nbd,disk=d0,socket={}", text(&stage.path("s")));
        let program = programs::folder().join("bulkhead");
        let said = fail(text(&program), &["storage", "--disk", &disk, "--export", &socket]);
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        assert!(!said.contains("horse"), "{said}");
        said
    };
    let refused = |image: &Path, keys: &str| refused_as("luks", image, keys);
    let (wrong, none) = (stage.path("wrong"), stage.path("none"));
    std::fs::write(&wrong, PASSPHRASE.trim_end()).unwrap();
    std::fs::write(&none, "").unwrap();
    let with = |path: &Path| format!(",key-secret={}", text(path));
    assert!(refused(&image, "").contains("'key-secret' is missing"));
    assert!(refused(&image, &with(&wrong)).contains("opens none of its key slots"));
    assert!(refused(&image, &with(&none)).contains("it is empty"));
    assert!(refused(&stage.noise("noise", 1), &with(&pw)).contains("not in LUKS format"));
    let inside = stage.path("inside");
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let create = ["create", "-q", "-f", "qcow2", "--object", &object, "-o", options];
    insist(&[&create[..], &[text(&inside), "1M"]].concat());
    assert!(refused_as("qcow2", &inside, "").contains("no passphrase was given for it"));
    assert!(refused_as("qcow2", &inside, &with(&wrong)).contains("none of its key slots"));
    let old = stage.path("old");
    let options = "encrypt.format=aes,encrypt.key-secret=s";
    let create = ["create", "-q", "-f", "qcow2", "--object", &object, "-o", options];
    insist(&[&create[..], &[text(&old), "1M"]].concat());
    assert!(refused_as("qcow2", &old, &with(&pw)).contains("in the old way"));
    let plain = stage.path("plain");
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", text(&plain), "1M"]);
    assert!(refused_as("qcow2", &plain, &with(&pw)).contains("is not encrypted"));
    let bytes = std::fs::read(&image).unwrap();
    let spoiled = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let (path, mut bytes) = (stage.path(name), bytes.clone());
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        refused(&path, &with(&pw))
    };
    assert!(spoiled("two", &|bytes| bytes[7] = 2).contains("cryptsetup convert"));
    assert!(spoiled("cut", &|bytes| bytes.truncate(8192)).contains("too few for its keys"));
    assert!(
        spoiled("slow", &|bytes| bytes[212..216].fill(0xff)).contains("rounds of key derivation")
    );
}
