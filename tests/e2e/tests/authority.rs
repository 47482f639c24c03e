//! What the processes of a disk hold and map while jobs run on it and NBD clients use it: the files of its
//! chain and of its jobs, sockets and rings, and never a byte of the guest's memory.

mod stage;

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_harness::block::Block;
use bulkhead_harness::programs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, nothing_left, processes_of, wait_for};

/// Keeps a job running as long as the test looks.
const SLOW: [&str; 3] = ["--speed", "4K", "--keep"];

fn qemu_img(stage: &Stage, arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).current_dir(stage.path(".")).output();
    let output = output.expect("qemu-img is installed");
    assert!(output.status.success(), "{output:?}");
}

/// `--disk` of a chain of two files, both with bytes.
fn chain(stage: &Stage) -> String {
    stage.file("base", &vec![7; 4 << 20]);
    qemu_img(stage, &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "top"]);
    let (top, base) = (stage.path("top"), stage.path("base"));
    format!("id=d0,path={top},format=qcow2,backing={base},backing-format=raw")
}

/// Begins a mirror and a backup that do not end.
fn begin_jobs(stage: &Stage) -> Block {
    let block = Block::of(stage.name());
    for (verb, format) in [("mirror", "qcow2"), ("backup", "raw")] {
        let target = format!("path={},format={format}", stage.path(verb));
        block.run(&[verb], &[&["d0", "--target", &target][..], &SLOW].concat()).expect("a job");
    }
    block
}

fn pid_of(stage: &Stage, role: &str) -> i64 {
    let processes = processes_of(stage.name());
    let process = processes.iter().find(|one| one["role"] == role).expect("it is there");
    process["pid"].as_i64().expect("a pid")
}

/// Whether a process maps the memory of a guest.
fn maps_guest(pid: i64) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may look");
    assert!(maps.lines().count() > 3, "{pid} shows no mappings");
    maps.contains("guest-ram")
}

/// The regular files that a process holds, by their names.
fn files_of(pid: i64) -> BTreeSet<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("root may look");
    let targets = folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let files = targets.filter(|target| target.is_absolute() && !target.starts_with("/dev"));
    let files = files.filter(|target| !target.starts_with("/memfd:") && target.is_file());
    files.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect()
}

fn audit(stage: &Stage) {
    let audit = stage.command(&["audit", stage.name()]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}

fn end(stage: &Stage, mut child: Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    nothing_left(stage.name());
}

fn names(files: &[&str]) -> BTreeSet<String> {
    files.iter().map(|file| (*file).to_owned()).collect()
}

#[test]
fn storage_with_jobs_and_nbd_clients_holds_the_files_of_its_plan_and_no_others() {
    let stage = Stage::new();
    if !stage.is_root() {
        return eprintln!("skipped: only root may look at a helper's descriptors");
    }
    let (nbd, frontend) = (stage.path("nbd.sock"), stage.path("blk.sock"));
    let mut command = programs::bulkhead();
    command.args(["storage", "--name", stage.name(), "--disk", &chain(&stage)]);
    command.arg("--export").arg(format!("vhost-user-blk,disk=d0,socket={frontend}"));
    command.arg("--export").arg(format!("nbd,disk=d0,socket={nbd}"));
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the sockets", || [&nbd, &frontend].iter().all(|path| Path::new(path).exists()));
    let _clients = [UnixStream::connect(&nbd).unwrap(), UnixStream::connect(&nbd).unwrap()];
    begin_jobs(&stage);
    for round in 0..2 {
        audit(&stage);
        let (layer, server) = (pid_of(&stage, "block-layer"), pid_of(&stage, "nbd-server"));
        let jobs = if round == 0 { &["backup", "mirror"][..] } else { &["mirror"] };
        assert_eq!(files_of(layer), names(&[&["base", "top"], jobs].concat()));
        assert_eq!(files_of(server), names(&[]));
        assert!(!maps_guest(layer) && !maps_guest(server));
        if round == 0 {
            // A successor takes the mirror over, and has no use for what the backup wrote.
            kill(Pid::from_raw(layer as i32), Signal::SIGKILL).unwrap();
            wait_for("a successor", || {
                let now = processes_of(stage.name());
                let layer = now.iter().find(|one| one["role"] == "block-layer");
                layer.is_some_and(|one| one["restarts"] == 1 && one["state"] == "running")
            });
            wait_for("the backup's end", || {
                let jobs = Block::of(stage.name()).jobs();
                jobs.iter().any(|job| job.job == "backup-d0" && job.status == "concluded")
            });
            wait_for("the mirror", || files_of(pid_of(&stage, "block-layer")).contains("mirror"));
        }
    }
    end(&stage, child);
}

#[test]
fn a_disk_of_a_machine_is_served_without_the_machines_memory() {
    let stage = Stage::new();
    if !stage.is_root() {
        return eprintln!("skipped: only root may look at a helper's mappings");
    }
    let disk = chain(&stage);
    let mut child = stage.started(&["--cpu", "soft,jit=off", "--disk", &disk]);
    begin_jobs(&stage);
    audit(&stage);
    // What is looked for is there to be seen.
    assert!(maps_guest(pid_of(&stage, "core")));
    for role in ["block-layer", "control", "supervisor"] {
        assert!(!maps_guest(pid_of(&stage, role)), "{role} maps guest memory");
    }
    let layer = pid_of(&stage, "block-layer");
    assert_eq!(files_of(layer), names(&["backup", "base", "mirror", "top"]));
    assert_eq!(files_of(pid_of(&stage, "vhost-blk")), names(&[]));
    assert!(stage.command(&["kill", stage.name()]).status.success());
    child.wait().unwrap();
}
