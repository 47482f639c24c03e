//! Running `qemu-img`, and a disk for both commands.

use std::path::Path;
use std::process::{Command, Output};

use super::program::must;

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

/// Both read the same, and are as long.
pub fn same_disk(arguments: &[&str], folder: &Path) {
    let said = must(&[&["compare"][..], arguments].concat(), folder);
    assert_eq!(said, "Images are identical.\n", "{arguments:?}");
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
