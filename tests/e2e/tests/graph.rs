//! A guest's disk gets new layers, loses them again and moves, while the guest writes, and it notices nothing.

mod stage;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use bulkhead_harness::block::Block;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, processes_of};

/// How often the disk gets a layer that is committed.
const ROUNDS: u32 = 5;

/// Makes something by a script of the demo.
fn make(script: &str, arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo");
    let status = Command::new(folder.join(script)).args(arguments).stdout(Stdio::null()).status();
    assert!(status.expect("it starts").success(), "{script} failed");
}

/// Debian's kernel with the demo's script: it writes numbered chunks until it is told `enough`, and reads
/// them back.
struct Demo {
    child: Child,
    console: BufReader<ChildStdout>,
    said: String,
}

impl Demo {
    fn start(stage: &Stage, image: &str) -> Option<Self> {
        let guest: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest");
        let kernel = guest.join("vmlinux");
        if !kernel.exists() {
            eprintln!("skipped: packaging/fetch-kernel.sh was not run");
            return None;
        }
        let initrd = stage.path("initramfs");
        make("mk-initramfs.sh", &[&initrd, "guest"]);
        make("mk-disk.sh", &[image, "48"]);
        let disk = format!("id=d0,path={image},format=raw");
        let append = "console=hvc0 quiet panic=-1 cryptomgr.notests bulkhead.script=demo";
        let mut command = stage.run_command(&["--cpu", "soft,jit=on", "--memory", "256M", "--rng"]);
        command.args(["--console", "stdio", "--disk", &disk, "--initrd", &initrd]);
        command.args(["--append", append]).arg("--kernel").arg(kernel);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let console = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, console, said: String::new() })
    }

    /// Reads its console up to these words.
    fn wait_for(&mut self, words: &str) {
        let mut line = Vec::new();
        while self.console.read_until(b'\n', &mut line).unwrap() > 0 {
            self.said += &String::from_utf8_lossy(&line);
            if self.said.contains(words) {
                return;
            }
            line.clear();
        }
        panic!("it ended without {words:?}: {}", self.said);
    }

    fn end(mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "enough").unwrap();
        self.wait_for("demo: done");
        assert!(!self.said.contains("FAILED"), "{}", self.said);
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.said);
    }
}

fn kill_block_layer(stage: &Stage) {
    let processes = processes_of(stage.name());
    let layer = processes.iter().find(|process| process["role"] == "block-layer").unwrap();
    let pid = layer["pid"].as_i64().unwrap();
    let _already_dead = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
}

#[test]
fn a_disk_changes_its_files_while_the_guest_writes() {
    let stage = Stage::new();
    let image = stage.path("disk");
    let Some(mut demo) = Demo::start(&stage, &image) else { return };
    demo.wait_for("demo: writing");
    let block = Block::of(stage.name());
    for round in 0..ROUNDS {
        let layer = stage.path(&format!("{round}.qcow2"));
        block.snapshot(Path::new(&layer)).expect("a layer");
        assert_eq!(block.layers(), [Path::new(&layer), Path::new(&image)]);
        block.insist(&["commit"], &["d0", "--keep"]).expect("a commit");
        if round % 2 == 1 {
            kill_block_layer(&stage);
        }
        block.finish("commit-d0").expect("the commit's end");
        assert_eq!(block.layers(), [Path::new(&image)]);
    }
    let copy = stage.path("copy.raw");
    let target = format!("path={copy},format=raw");
    block.run(&["mirror"], &["d0", "--target", &target, "--keep"]).expect("a mirror");
    block.finish("mirror-d0").expect("the mirror's end");
    assert_eq!(block.layers(), [Path::new(&copy)]);
    demo.end();
    let check = Command::new("e2fsck").args(["-fn", &copy]).output().expect("e2fsck");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
