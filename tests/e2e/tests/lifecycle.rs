//! From start to end, with a guest of a few bytes: what the command prints, what `ps` shows, how it
//! ends, and that nothing is left.

mod stage;

use std::process::{Child, Stdio};
use std::time::Duration;

use bulkhead_harness::engine::{class, software};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, nothing_left, processes_of, wait_for};

fn started(stage: &Stage, options: &[&str]) -> Child {
    stage.started(&[&["--rng"], options].concat())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("it lives");
}

fn roles(stage: &Stage) -> Vec<String> {
    let mut roles: Vec<String> = processes_of(stage.name())
        .iter()
        .map(|one| one["role"].as_str().unwrap().to_owned())
        .collect();
    roles.sort();
    roles
}

#[test]
fn each_device_is_a_process_of_its_own() {
    let stage = Stage::new();
    let disk = format!("path={},format=raw", stage.image(1 << 20));
    let console = format!("file={}", stage.path("console"));
    let mut child =
        started(&stage, &["--cpu", &software(), "--disk", &disk, "--console", &console]);
    let expected = [
        "block-layer",
        "control",
        "core",
        "launcher",
        class(),
        "supervisor",
        "vhost-blk",
        "vhost-console",
        "vhost-rng",
    ];
    assert_eq!(roles(&stage), expected);
    let audit = stage.command(&["audit", stage.name()]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    assert!(stage.command(&["kill", stage.name()]).status.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The pid of a class's process that has been replaced so often, if `ps` can tell now.
fn replaced(stage: &Stage, role: &str, restarts: u64) -> Option<i32> {
    let output = stage.command(&["ps", "--json", stage.name()]);
    let processes: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
    let process = processes.iter().find(|one| one["role"] == role)?;
    let serves = process["state"] == "running" && process["restarts"].as_u64()? == restarts;
    serves.then(|| process["pid"].as_i64().and_then(|pid| pid.try_into().ok()))?
}

#[test]
fn a_stopped_helper_of_every_class_is_found_and_replaced() {
    let stage = Stage::new();
    let disk = format!("path={},format=raw", stage.image(1 << 20));
    let console = format!("file={}", stage.path("console"));
    let mut child = started(&stage, &["--disk", &disk, "--console", &console]);
    for role in ["block-layer", "vhost-blk", "vhost-console", "vhost-rng", "control"] {
        let pid = replaced(&stage, role, 0).unwrap_or_else(|| panic!("{role} does not run"));
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it lives");
        wait_for(role, || replaced(&stage, role, 1).is_some());
    }
    assert!(stage.command(&["kill", stage.name()]).status.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Core is the machine: there is nobody who could take over.
#[test]
fn a_stopped_core_ends_the_vm() {
    let stage = Stage::new();
    let child = started(&stage, &[]);
    let core = replaced(&stage, "core", 0).expect("core runs");
    kill(Pid::from_raw(core), Signal::SIGSTOP).expect("it lives");
    let output = child.wait_with_output().expect("output");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("core died: it did not answer its heartbeat"), "{text}");
}

#[test]
fn a_test_kernel_says_by_a_port_how_the_command_ends() {
    // mov dx, port; mov al, 0x15; out dx, al; cli; hlt
    let code = |port: u16| {
        let [low, high] = port.to_le_bytes();
        [0x66, 0xba, low, high, 0xb0, 0x15, 0xee, 0xfa, 0xf4]
    };
    for (option, port) in [("--debug-exit", 0xf4), ("--debug-exit=0x501", 0x501)] {
        let stage = Stage::new();
        let kernel = stage.file("kernel", &bulkhead_harness::kernel::pvh(&code(port)));
        let output = stage.run(&["--kernel", &kernel, "--memory", "64M", option]);
        assert_eq!(output.status.code(), Some(0x2b), "{output:?}");
    }
}

#[test]
fn a_vm_is_paused_and_resumed() {
    let stage = Stage::new();
    let mut child = started(&stage, &[]);
    assert!(stage.command(&["pause", stage.name()]).status.success());
    assert!(stage.command(&["resume", stage.name()]).status.success());
    assert!(stage.command(&["kill", stage.name()]).status.success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_death_of_the_command_ends_the_vm() {
    let stage = Stage::new();
    let mut child = started(&stage, &[]);
    let pids: Vec<i64> =
        processes_of(stage.name()).iter().filter_map(|one| one["pid"].as_i64()).collect();
    assert!(pids.len() >= 5, "{pids:?}");
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    for pid in pids {
        let alive = || std::path::Path::new(&format!("/proc/{pid}")).exists();
        wait_for("its processes to go", || !alive());
    }
}

#[test]
fn sigterm_ends_a_deaf_guest_after_its_time_out() {
    let stage = Stage::new();
    let mut child = started(&stage, &["--shutdown-timeout", "0.2"]);
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_vm_from_a_file_runs_detached_until_it_is_killed() {
    let stage = Stage::new();
    let kernel = stage.talking_kernel();
    let text = format!("name = \"{}\"\nkernel = \"{kernel}\"\nmemory = \"64M\"\n", stage.name());
    let file = stage.file("vm.toml", text.as_bytes());
    let output = stage.command(&["run", &file, "--detach"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), stage.name());
    assert!(roles(&stage).contains(&"core".to_owned()));
    assert!(stage.command(&["kill", stage.name()]).status.success());
}

#[test]
fn the_plan_is_printed_and_nothing_started() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let output = stage.run(&["--kernel", &kernel, "--dry-run"]);
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && plan.contains("core") && plan.contains(&kernel), "{plan}");
}

#[test]
fn ctrl_c_at_any_moment_of_the_start_leaves_nothing() {
    let stage = Stage::new();
    let kernel = stage.talking_kernel();
    let disk = format!("path={},format=raw", stage.image(1 << 20));
    for step in 0..24 {
        let arguments = ["--kernel", &kernel, "--memory", "64M", "--disk", &disk];
        let mut command = stage.run_command(&arguments);
        command.args(["--shutdown-timeout", "0"]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("bulkhead starts");
        std::thread::sleep(Duration::from_millis(step * 4));
        signal(&child, Signal::SIGINT);
        child.wait().unwrap();
        nothing_left(stage.name());
    }
}

#[test]
fn what_is_granted_is_printed_in_three_forms() {
    let stage = Stage::new();
    for format in ["text", "markdown", "json"] {
        let output = stage.command(&["policy", "report", "--format", format]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("vhost-blk"), "{text}");
    }
    let output = stage.command(&["policy", "show", "vhost-blk"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("any other kills"));
}
