//! What the software CPU tells of itself: counters, its trace, and instructions that it lacks.

mod stage;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use bulkhead_harness::engine::{class, software, software_with};
use stage::{IDLE, SAY, Stage, processes_of, refused};

/// `getsec`, of which CPUID says that it is not there.
const LACKING: [u8; 2] = [0x0f, 0x37];

/// `ud2`, and there is no table of interrupts.
const FAULT: [u8; 2] = [0x0f, 0x0b];

const ENTRY: usize = bulkhead_harness::kernel::LOAD_ADDRESS as usize;

#[test]
fn its_counters_are_in_the_list_of_processes_if_asked_for() {
    let stage = Stage::new();
    let mut child = stage.started(&["--cpu", &software()]);
    let output = stage.command(&["ps", "-v", stage.name()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for name in ["instructions", "blocks", "TLB fills", "flushes", "slow calls", "exceptions"] {
        assert!(text.contains(&format!("\n  {name} ")), "{name}: {text}");
    }
    let json = stage.command(&["ps", "-v", "--json", stage.name()]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    let counters: Vec<_> = rows.iter().filter(|row| !row["counters"].is_null()).collect();
    let [row] = *counters else { panic!("one process counts: {rows:?}") };
    assert_eq!(row["role"], class());
    assert!(row["counters"]["instructions"].as_u64() >= Some(4), "{row}");
    assert!(row["counters"]["blocks"].as_u64() >= Some(1), "{row}");
    assert!(processes_of(stage.name()).iter().all(|row| row["counters"].is_null()));
    assert!(stage.command(&["kill", stage.name()]).status.success());
    child.wait().unwrap();
}

#[test]
fn a_trace_has_the_blocks_and_exceptions_of_the_guest() {
    let stage = Stage::new();
    let kernel = stage.kernel_of(&[&SAY[..], &FAULT].concat());
    let file = stage.path("trace,file");
    let cpu = software_with(&format!("trace={}", file.replace(',', ",,")));
    let output = stage.run(&["--kernel", &kernel, "--memory", "64M", "--cpu", &cpu]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let trace = std::fs::read_to_string(file).unwrap();
    let first = trace.lines().next().unwrap_or_default();
    assert!(first.starts_with(&format!("0 block rip={ENTRY:x} mode=32 bytes=")), "{trace}");
    let fault = format!("0 exception vector=6 rip={:x}\n", ENTRY + SAY.len());
    let double = format!("0 exception vector=8 code=0 rip={:x}\n", ENTRY + SAY.len());
    assert!(trace.contains(&fault) && !trace.contains(&double), "{trace}");
}

#[test]
fn a_traced_machine_is_as_declared() {
    let stage = Stage::new();
    let cpu = software_with(&format!("trace={}", stage.path("trace")));
    let mut child = stage.started(&["--cpu", &cpu, "--cpus", "2"]);
    let audit = stage.command(&["audit", stage.name()]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    assert!(stage.command(&["kill", stage.name()]).status.success());
    child.wait().unwrap();
}

#[test]
fn a_trace_that_cannot_be_written_is_refused() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let nowhere = "soft,trace=/no/such/folder/trace";
    refused(stage.run(&["--kernel", &kernel, "--cpu", nowhere]), &["--cpu", nowhere, "write"]);
    let cpu = "soft,trace=t";
    let output = stage.run(&["--kernel", &kernel, "--cpu", cpu, "--detach"]);
    refused(output, &["--cpu", cpu, "--detach"]);
}

#[test]
fn instructions_that_it_lacks_are_named() {
    let stage = Stage::new();
    let kernel = stage.kernel_of(&[&SAY[..], &LACKING, &IDLE].concat());
    let mut command = stage.run_command(&["--kernel", &kernel, "--memory", "64M"]);
    command.args(["--cpu", &software(), "--on-crash", "pause"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let errors = BufReader::new(child.stderr.take().unwrap());
    let at = ENTRY + SAY.len();
    let words = format!("times, the last at {at:#x}: 0f 37)");
    let told = errors.lines().map_while(Result::ok).any(|line| line.contains(&words));
    assert!(told, "it ended without {words}");
    assert!(stage.command(&["kill", stage.name()]).status.success());
    child.wait().unwrap();
}
