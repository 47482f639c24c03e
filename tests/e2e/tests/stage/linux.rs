//! Debian's kernel with a script of the demo's on its console.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::Stage;

/// Makes something by a script of the demo.
fn make(script: &str, arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo");
    let status = Command::new(folder.join(script)).args(arguments).stdout(Stdio::null()).status();
    assert!(status.expect("it starts").success(), "{script} failed");
}

/// See the module.
pub struct Linux {
    child: Child,
    console: BufReader<ChildStdout>,
    said: String,
}

impl Linux {
    /// A guest that runs `script` with a fresh disk `d0` of `mebibytes` at `image`; none, if there is no
    /// kernel here.
    pub fn start(stage: &Stage, script: &str, image: &str, mebibytes: u32) -> Option<Self> {
        let guest: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest");
        let kernel = guest.join("vmlinux");
        if !kernel.exists() {
            eprintln!("skipped: packaging/fetch-kernel.sh was not run");
            return None;
        }
        let initrd = stage.path("initramfs");
        make("mk-initramfs.sh", &[&initrd, "guest"]);
        make("mk-disk.sh", &[image, &mebibytes.to_string()]);
        let disk = format!("id=d0,path={image},format=raw");
        let append =
            format!("console=hvc0 quiet panic=-1 cryptomgr.notests bulkhead.script={script}");
        let mut command = stage.run_command(&["--cpu", "soft,jit=on", "--memory", "256M", "--rng"]);
        command.args(["--console", "stdio", "--disk", &disk, "--initrd", &initrd]);
        command.args(["--append", &append]).arg("--kernel").arg(kernel);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let console = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, console, said: String::new() })
    }

    /// Reads its console up to a line with these words, which have not been read yet; the line.
    pub fn wait_for(&mut self, words: &str) -> String {
        let mut line = Vec::new();
        while self.console.read_until(b'\n', &mut line).unwrap() > 0 {
            let text = String::from_utf8_lossy(&line).into_owned();
            self.said += &text;
            if text.contains(words) {
                return text;
            }
            line.clear();
        }
        panic!("it ended without {words:?}: {}", self.said);
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Everything that was read, and how its command ended.
    pub fn end(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        (self.said, code)
    }
}
