//! What an attacker inside a helper would have to know, and what its successor does not share.

mod stage;

use std::collections::BTreeSet;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, processes_of, wait_for};

/// Successors looked at.
const STARTS: u64 = 100;

/// The running process of `role` after so many restarts.
fn after(stage: &Stage, role: &str, restarts: u64) -> Option<Pid> {
    let processes = processes_of(stage.name());
    let process = processes.iter().find(|one| one["role"] == role)?;
    let is_it = process["state"] == "running" && process["restarts"].as_u64()? == restarts;
    is_it.then(|| process["pid"].as_i64()?.try_into().ok().map(Pid::from_raw))?
}

/// Where the program's code is mapped: the first executable mapping, as `/proc/PID/maps` has it.
fn text_base(pid: Pid) -> String {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may look");
    let text = maps.lines().find(|line| line.contains(" r-xp ")).expect("it has code");
    text.split('-').next().expect("an address").to_owned()
}

#[test]
fn the_code_of_a_helper_is_never_twice_at_the_same_address() {
    let stage = Stage::new();
    if !stage.is_root() {
        eprintln!("skipped: only root may look at a helper's mappings");
        return;
    }
    let kernel = stage.kernel();
    let mut command = stage.run_command(&["--kernel", &kernel, "--memory", "64M", "--rng"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("bulkhead starts");
    wait_for("the instance", || stage.command(&["ps", "--json", stage.name()]).status.success());
    let mut bases = BTreeSet::new();
    for restarts in 0..STARTS {
        wait_for("a successor", || after(&stage, "vhost-rng", restarts).is_some());
        let pid = after(&stage, "vhost-rng", restarts).expect("it runs");
        bases.insert(text_base(pid));
        kill(pid, Signal::SIGKILL).expect("it lives");
    }
    assert_eq!(bases.len(), STARTS as usize);
    assert!(stage.command(&["kill", stage.name()]).status.success());
    child.wait().expect("it ended");
}
