//! ext4 images, made, read and checked with e2fsprogs: nothing is mounted, so no root is needed.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a program of `/sbin` or `/bin`, and wants it to succeed.
fn run(program: &str, arguments: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    let output = command.args(arguments).env("PATH", path).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    output
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// A copy that takes as little room as the original.
pub fn copy(from: &Path, to: &Path) {
    run("cp", &["--sparse=always", "--reflink=auto", text(from), text(to)]);
}

/// An image of `mebibytes` with the content of a folder.
pub fn make(image: &Path, folder: &Path, mebibytes: u32) {
    let size = format!("{mebibytes}M");
    let options = "lazy_itable_init=0,lazy_journal_init=0";
    run("mke2fs", &["-q", "-t", "ext4", "-E", options, "-d", text(folder), text(image), &size]);
}

/// The content of one file in an image.
pub fn read(image: &Path, file: &str) -> String {
    let output = run("debugfs", &["-R", &format!("cat {file}"), text(image)]);
    String::from_utf8(output.stdout).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Checks that an image has no errors and needs no recovery.
pub fn assert_clean(image: &Path) {
    run("e2fsck", &["-fn", text(image)]);
    let state = run("dumpe2fs", &["-h", text(image)]);
    let state = String::from_utf8_lossy(&state.stdout).into_owned();
    assert!(!state.contains("needs_recovery"), "{} was not unmounted:\n{state}", image.display());
}
