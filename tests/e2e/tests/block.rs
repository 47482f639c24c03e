//! `bulkhead block …` as a user meets it: transactions, refusals, locks, and what is left of what failed.

mod stage;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_harness::block::Block;
use bulkhead_harness::programs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, nothing_left, processes_of, refused, wait_for};

const SIZE: u64 = 4 << 20;

/// A storage instance with the disks `d0` and `d1`; ended on drop.
struct Pair<'a> {
    stage: &'a Stage,
    child: Child,
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl<'a> Pair<'a> {
    fn start(stage: &'a Stage) -> Self {
        let mut command = programs::bulkhead();
        command.args(["storage", "--name", stage.name()]);
        let mut sockets = Vec::new();
        for disk in ["d0", "d1"] {
            let (image, socket) = (stage.path(disk), stage.path(&format!("{disk}.sock")));
            std::fs::File::create(&image).and_then(|file| file.set_len(SIZE)).unwrap();
            command.arg("--disk").arg(format!("id={disk},path={image},format=raw"));
            command.arg("--export").arg(format!("vhost-user-blk,disk={disk},socket={socket}"));
            sockets.push(socket);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the sockets", || sockets.iter().all(|socket| Path::new(socket).exists()));
        Self { stage, child }
    }

    fn block(&self) -> Block {
        Block::of(self.stage.name())
    }

    fn ask(&self, verb: &[&str], arguments: &[&str]) -> std::process::Output {
        let name = [self.stage.name()];
        self.stage.command(&[&["block"], verb, &name, arguments].concat())
    }

    fn overlay(&self, disk: &str, file: &str) -> String {
        format!("{disk},path={}", self.stage.path(file))
    }

    fn exists(&self, file: &str) -> bool {
        Path::new(&self.stage.path(file)).exists()
    }

    fn disks(&self) -> Vec<serde_json::Value> {
        let text = self.block().run(&["query"], &["--json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn tops(&self) -> Vec<String> {
        let top = |disk: &serde_json::Value| disk["layers"][0]["path"].as_str().unwrap().to_owned();
        self.disks().iter().map(top).collect()
    }

    fn images(&self) -> Vec<String> {
        ["d0", "d1"].map(|disk| self.stage.path(disk)).to_vec()
    }

    fn signal(&self, disk: &str, signal: Signal) {
        let all = processes_of(self.stage.name());
        let is_it = |p: &&serde_json::Value| p["role"] == "block-layer" && p["id"] == disk;
        let pid = all.iter().find(is_it).unwrap()["pid"].as_i64().unwrap();
        kill(Pid::from_raw(pid as i32), signal).unwrap();
    }
}

/// Whether QEMU may open an image: nobody has it locked.
fn is_free(image: &str) -> bool {
    let info = Command::new("qemu-img").args(["info", "-f", "qcow2", image]).output();
    info.expect("qemu-img is installed").status.success()
}

#[test]
fn a_snapshot_of_two_disks_is_one_of_both() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    let (a, b) = (pair.overlay("d0", "a"), pair.overlay("d1", "b"));
    let output = pair.ask(&["snapshot"], &["--disk", &a, "--disk", &b]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(pair.tops(), [stage.path("a"), stage.path("b")]);
    assert!(!is_free(&stage.path("a")), "the new top layer is not locked");
}

#[test]
fn a_snapshot_that_one_disk_cannot_have_is_none_and_leaves_no_file() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    stage.file("b", b"somebody's");
    let (a, b) = (pair.overlay("d0", "a"), pair.overlay("d1", "b"));
    let output = pair.ask(&["snapshot"], &["--disk", &a, "--disk", &b]);
    refused(output, &["snapshot --disk d1", "there already", "existing"]);
    assert_eq!(pair.tops(), pair.images());
    assert!(!pair.exists("a"), "the other disk's file is left");
    assert_eq!(std::fs::read(stage.path("b")).unwrap(), b"somebody's");
}

#[test]
fn a_disk_that_hangs_in_a_transaction_takes_the_other_one_out_of_it() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    pair.signal("d1", Signal::SIGSTOP);
    let (a, b) = (pair.overlay("d0", "a"), pair.overlay("d1", "b"));
    let output = pair.ask(&["snapshot"], &["--disk", &a, "--disk", &b]);
    refused(output, &["d1", "died before it was done", "no disk was changed"]);
    assert_eq!(pair.tops(), pair.images());
    assert!(!pair.exists("a") && !pair.exists("b"), "files are left");
    pair.block().insist(&["snapshot"], &["--disk", &a, "--disk", &b]).unwrap();
    assert_eq!(pair.tops(), [stage.path("a"), stage.path("b")]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    let overlay = pair.overlay("d9", "x");
    refused(pair.ask(&["snapshot"], &["--disk", &overlay]), &["d9", "no such disk", "d0, d1"]);
    let overlay = pair.overlay("d0", "no/such/folder");
    refused(pair.ask(&["snapshot"], &["--disk", &overlay]), &["snapshot --disk d0", "no such"]);
    refused(pair.ask(&["job", "cancel"], &["nobody"]), &["nobody", "no such job"]);
    refused(pair.ask(&["commit"], &["d0"]), &["--base", "not below"]);
    refused(pair.ask(&["stream"], &["d0"]), &["stream-d0", "nothing lies below"]);
    let small = stage.image(1 << 20);
    let target = format!("path={small},format=raw,existing");
    let output = pair.ask(&["mirror"], &["d0", "--target", &target]);
    refused(output, &["mirror-d0", "has 1048576 bytes", "4194304"]);
    assert!(Path::new(&small).exists(), "somebody's own file was removed");
    let own = format!("path={},format=raw,existing", stage.path("d1"));
    let output = pair.ask(&["backup"], &["d0", "--target", &own]);
    refused(output, &["locked by disk d1 of this very instance"]);
    let target = format!("path={}", stage.path("y"));
    refused(pair.ask(&["backup"], &["d0", "--target", &target]), &["'format' is missing"]);
    let target = format!("path={},format=qcow2,cluster-size=1000", stage.path("y"));
    refused(pair.ask(&["backup"], &["d0", "--target", &target]), &["cluster-size=1000"]);
    assert!(!pair.exists("x") && !pair.exists("y"), "files are left");
}

#[test]
fn a_job_that_could_not_make_another_chain_is_refused_and_nobody_dies() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    let overlay = pair.overlay("d0", "a");
    pair.block().run(&["snapshot"], &["--disk", &overlay]).unwrap();
    let output = pair.ask(&["stream"], &["d0", "--base", &stage.path("d0")]);
    refused(output, &["stream-d0", "nothing lies below"]);
    let target = format!("path={},format=raw", stage.path("raw"));
    let output = pair.ask(&["mirror"], &["d0", "--sync", "top", "--target", &target]);
    refused(output, &["--sync top", "nothing below", "format=qcow2"]);
    assert!(!pair.exists("raw"), "a file is left");
    assert!(pair.block().jobs().is_empty());
    let processes = processes_of(stage.name());
    assert!(processes.iter().all(|process| process["restarts"] == 0), "{processes:?}");
    pair.block().run(&["stream"], &["d0", "--keep"]).unwrap();
    pair.block().finish("stream-d0").unwrap();
    assert_eq!(pair.tops()[0], stage.path("a"));
}

#[test]
fn a_disk_on_which_a_job_works_is_busy_until_the_job_has_ended() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    let target = format!("path={},format=qcow2", stage.path("copy"));
    pair.block().run(&["mirror"], &["d0", "--target", &target, "--wait"]).unwrap();
    let overlay = pair.overlay("d0", "a");
    let output = pair.ask(&["snapshot"], &["--disk", &overlay]);
    refused(output, &["job mirror-d0 works on", "cancel it"]);
    refused(pair.ask(&["mirror"], &["d0", "--target", &target]), &["a job of this name"]);
    pair.block().run(&["job", "cancel"], &["mirror-d0"]).unwrap();
    wait_for("the job's end", || pair.block().jobs().is_empty());
    assert!(is_free(&stage.path("copy")), "the target of a job that ended is locked");
    pair.block().run(&["snapshot"], &["--disk", &overlay]).unwrap();
}

#[test]
fn files_that_leave_a_disk_are_free_for_others() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    let (block, overlay) = (pair.block(), pair.overlay("d0", "a"));
    block.run(&["snapshot"], &["--disk", &overlay]).unwrap();
    block.run(&["commit"], &["d0", "--keep"]).unwrap();
    block.finish("commit-d0").unwrap();
    assert_eq!(pair.tops(), pair.images());
    assert!(is_free(&stage.path("a")), "the committed layer is still locked");
    let mut writer = Command::new("qemu-io");
    writer.args(["-f", "raw", "-c", "write 0 512"]).arg(stage.path("d0"));
    let output = writer.output().expect("qemu-io is installed");
    assert!(!output.status.success(), "the base is not locked: {output:?}");
}

#[test]
fn a_job_goes_on_in_a_successor_and_a_backup_fails_with_an_event() {
    let stage = Stage::new();
    let pair = Pair::start(&stage);
    let mut events = programs::bulkhead();
    let events = events.args(["events", stage.name()]).stdout(Stdio::piped()).spawn().unwrap();
    let block = pair.block();
    let mirror = format!("path={},format=qcow2", stage.path("mirror"));
    let backup = format!("path={},format=raw", stage.path("backup"));
    block.run(&["mirror"], &["d0", "--target", &mirror, "--speed", "4K", "--keep"]).unwrap();
    block.run(&["backup"], &["d1", "--target", &backup, "--speed", "4K", "--keep"]).unwrap();
    for disk in ["d0", "d1"] {
        pair.signal(disk, Signal::SIGKILL);
    }
    let job = |name: &str| block.jobs().into_iter().find(|job| job.job == name);
    wait_for("the backup's end", || job("backup-d1").unwrap().status == "concluded");
    assert!(job("backup-d1").unwrap().error.unwrap().contains("cannot start again"));
    block.insist(&["job", "set-speed"], &["mirror-d0", "0"]).unwrap();
    block.finish("mirror-d0").unwrap();
    assert_eq!(pair.tops()[0], stage.path("mirror"));
    drop(pair);
    let told = events.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout);
    for event in ["job-restarted", "job-failed", "job-ready", "job-completed", "graph-changed"] {
        assert!(told.contains(event), "{event} is not in {told}");
    }
    nothing_left(stage.name());
}

/// A storage instance with this disk, shown as a dry run.
fn dry(stage: &Stage, disk: &str) -> std::process::Output {
    let export = format!("vhost-user-blk,disk=d0,socket={}", stage.path("x.sock"));
    let disk = format!("id=d0,{disk}");
    stage.command(&["storage", "--disk", &disk, "--export", &export, "--dry-run"])
}

fn qemu_img(stage: &Stage, arguments: &[&str]) {
    let mut command = Command::new("qemu-img");
    let output = command.args(arguments).current_dir(stage.path(".")).output();
    let output = output.expect("qemu-img is installed");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn names_in_headers_are_followed_for_who_says_so_and_for_nobody_else() {
    let stage = Stage::new();
    qemu_img(&stage, &["create", "-q", "-f", "raw", "base", "4M"]);
    qemu_img(&stage, &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "middle"]);
    qemu_img(&stage, &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "middle", "top"]);
    let disk = format!("path={},format=qcow2", stage.path("top"));
    let output = dry(&stage, &format!("{disk},backing=auto"));
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for file in ["top", "middle", "base"] {
        assert!(plan.contains(&stage.path(file)), "{file} is not in {plan}");
    }
    let output = dry(&stage, &disk);
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!plan.contains(&stage.path("middle")), "a name in a header was followed: {plan}");
    qemu_img(&stage, &["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "top", "middle"]);
    refused(dry(&stage, &format!("{disk},backing=auto")), &["--disk", "loop"]);
    qemu_img(&stage, &["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "gone", "top"]);
    refused(dry(&stage, &format!("{disk},backing=auto")), &["--disk", "gone"]);
}

#[test]
fn a_header_that_names_another_file_is_told_of_and_not_followed() {
    let stage = Stage::new();
    qemu_img(&stage, &["create", "-q", "-f", "raw", "base", "4M"]);
    qemu_img(&stage, &["create", "-q", "-f", "raw", "other", "4M"]);
    qemu_img(&stage, &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "top"]);
    let (top, other, socket) = (stage.path("top"), stage.path("other"), stage.path("s.sock"));
    let mut command = programs::bulkhead();
    command.args(["storage", "--name", stage.name(), "--disk"]);
    command.arg(format!("id=d0,path={top},format=qcow2,backing={other},backing-format=raw"));
    command.arg("--export").arg(format!("vhost-user-blk,disk=d0,socket={socket}"));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for("the socket", || Path::new(&socket).exists());
    assert_eq!(Block::of(stage.name()).layers(), [Path::new(&top), Path::new(&other)]);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
    child.wait().unwrap();
    assert!(said.contains("names 'base'") && said.contains(&other), "{said}");
}
