//! QEMU's tools.

use std::path::Path;
use std::process::{Command, Output};

pub fn is_there() -> bool {
    Command::new("qemu-img").arg("--version").output().is_ok_and(|output| output.status.success())
}

pub fn img(arguments: &[&str]) -> Output {
    Command::new("qemu-img").args(arguments).output().expect("qemu-img runs")
}

pub fn must(arguments: &[&str]) -> String {
    let output = img(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "qemu-img {arguments:?}: {out}{err}");
    out
}

pub fn io(image: &str, commands: &[String]) {
    let output = try_io(image, commands);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let failed = !output.status.success() || out.contains("failed") || out.contains("error");
    assert!(!failed, "qemu-io {image} {commands:?}: {out}{err}");
}

pub fn try_io(image: &str, commands: &[String]) -> Output {
    let mut program = Command::new("qemu-io");
    program.args(["-d", "unmap", image]);
    for command in commands {
        program.args(["-c", command]);
    }
    program.output().expect("qemu-io runs")
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("a path in text")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
