//! Running the two commands, and a disk for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The command that was just built, if its helpers are beside it; else one that was installed with them.
pub fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_bulkhead-img"));
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/bin/bulkhead-img");
    let named =
        std::env::var_os("BULKHEAD_BIN").map(|folder| Path::new(&folder).join("bulkhead-img"));
    let whole = |path: &PathBuf| {
        let helpers = ["bulkhead-launcher", "bulkhead-block-layer"];
        path.is_file() && helpers.iter().all(|helper| path.with_file_name(helper).is_file())
    };
    let found = [Some(built), named, Some(dist)].into_iter().flatten().find(whole);
    found.expect("bulkhead-launcher and bulkhead-block-layer are not built: run `make build`")
}

pub fn ours(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder).output().expect("bulkhead-img runs")
}

pub fn must(arguments: &[&str], folder: &Path) -> String {
    let output = ours(arguments, folder);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{complaint}");
    text
}

pub fn qemu(arguments: &[&str], folder: &Path) -> Option<Output> {
    Command::new("qemu-img").args(arguments).current_dir(folder).output().ok()
}

/// `None` where there is no qemu-img.
pub fn theirs(arguments: &[&str], folder: &Path) -> Option<String> {
    let output = qemu(arguments, folder)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {complaint}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn raw_disk(folder: &Path) {
    let mut bytes = vec![0; 5 << 20];
    for (index, byte) in bytes.iter_mut().enumerate() {
        if index / 300_000 % 3 != 1 {
            *byte = (index / 1000 % 251) as u8;
        }
    }
    std::fs::write(folder.join("disk.raw"), bytes).expect("a raw disk");
}

pub fn facts(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

pub fn patch(dir: &Path, image: &str, at: &str, byte: &str) {
    let write = format!("write -P {byte} {at} 300k");
    let done = Command::new("qemu-io").args(["-c", &write, image]).current_dir(dir).output();
    assert!(done.expect("qemu-io runs").status.success());
}
