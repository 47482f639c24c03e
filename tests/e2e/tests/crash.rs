//! Guests that crash: what is told of it, and what `--on-crash` does.

mod stage;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

use bulkhead_harness::engine::software;
use stage::{SAY, Stage, wait_for};

/// `mov eax, 0x1234567; mov ebp, 0x89abcdef`.
const MARK: [u8; 10] = [0xb8, 0x67, 0x45, 0x23, 0x01, 0xbd, 0xef, 0xcd, 0xab, 0x89];

/// `cli; hlt`.
const HALT: [u8; 2] = [0xfa, 0xf4];

/// `ud2`, and there is no table of interrupts.
const FAULT: [u8; 2] = [0x0f, 0x0b];

/// How a guest crashes, and what is told of it.
const CRASHES: [([u8; 2], &str); 2] = [
    (FAULT, "the guest crashed: vCPU 0: triple fault"),
    (HALT, "the guest crashed: vCPU 0: halted with interrupts off"),
];

/// Of a kernel's first instruction.
const ENTRY: u32 = bulkhead_harness::kernel::LOAD_ADDRESS;

fn run(stage: &Stage, code: &[u8], options: &[&str]) -> (Option<i32>, String) {
    let kernel = stage.kernel_of(code);
    let soft = ["--kernel", &kernel, "--memory", "64M", "--cpu", &software()];
    let output = stage.run(&[&soft[..], options].concat());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A VM in software that is not waited for.
struct Running<'a> {
    stage: &'a Stage,
    child: Child,
    errors: BufReader<ChildStderr>,
}

impl<'a> Running<'a> {
    fn start(stage: &'a Stage, code: &[u8], options: &[&str]) -> Self {
        let kernel = stage.kernel_of(code);
        let mut command = stage.run_command(&["--kernel", &kernel, "--memory", "64M"]);
        command.args(["--cpu", &software()]).args(options).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Self { stage, child, errors }
    }

    /// Waits for the next line on stderr with these words.
    fn await_line(&mut self, words: &str) {
        let mut line = String::new();
        while self.errors.read_line(&mut line).unwrap() > 0 {
            if line.contains(words) {
                return;
            }
            line.clear();
        }
        panic!("it ended without {words:?}");
    }

    /// Waits for the guest's character.
    fn await_say(&mut self) {
        let mut said = [0];
        self.child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(said, *b"!");
    }

    fn command(&self, command: &str) {
        // The guest does not wait for those who watch it.
        let is_shown = || self.stage.command(&["ps", self.stage.name()]).status.success();
        wait_for("its control socket", is_shown);
        let output = self.stage.command(&[command, self.stage.name()]);
        assert!(output.status.success(), "{command}: {output:?}");
    }

    fn end(mut self, command: &str) {
        self.command(command);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_triple_fault_ends_the_vm_and_tells_where_and_with_which_registers() {
    let stage = Stage::new();
    let (code, text) = run(&stage, &[&MARK[..], &FAULT].concat(), &[]);
    assert_eq!(code, Some(3), "{text}");
    let at = ENTRY as usize + MARK.len();
    let sentence = format!("the guest crashed: vCPU 0: triple fault at {at:#x}\n");
    assert_eq!(text.matches(&*sentence).count(), 1, "{text}");
    let rip = format!("rip {at:016x}");
    for register in [&*rip, "rax 0000000001234567", "rbp 0000000089abcdef", "r15 0000000000000000"]
    {
        assert!(text.contains(register), "{register}: {text}");
    }
}

#[test]
fn a_halt_with_interrupts_off_ends_the_vm_however_many_wait_to_be_started() {
    for cpus in ["1", "2", "8"] {
        let stage = Stage::new();
        let (code, text) = run(&stage, &[&MARK[..], &HALT].concat(), &["--cpus", cpus]);
        assert_eq!(code, Some(3), "{text}");
        let at = ENTRY as usize + MARK.len() + HALT.len();
        let words = format!("vCPU 0: halted with interrupts off, and no other runs at {at:#x}");
        assert!(text.contains(&words) && text.contains("rax 0000000001234567"), "{text}");
    }
}

#[test]
fn reset_boots_it_again_as_often_as_it_crashes() {
    for (crash, told) in CRASHES {
        let stage = Stage::new();
        let code = [&SAY[..], &crash].concat();
        let mut vm = Running::start(&stage, &code, &["--on-crash", "reset"]);
        for _ in 0..3 {
            vm.await_say();
            vm.await_line(told);
        }
        // It crashes on, and its lines are not read any more: the VM ends with the command.
        vm.child.kill().unwrap();
        vm.child.wait().unwrap();
    }
}

#[test]
fn reset_of_a_guest_that_may_not_boot_again_ends_it_as_a_crash() {
    let stage = Stage::new();
    let (code, text) = run(&stage, &HALT, &["--on-crash", "reset", "--no-reboot"]);
    assert_eq!(code, Some(3), "{text}");
}

#[test]
fn pause_keeps_it_for_whoever_wants_to_look_let_it_go_on_or_reset_it() {
    for (crash, told) in CRASHES {
        let stage = Stage::new();
        let code = [&SAY[..], &crash].concat();
        let mut vm = Running::start(&stage, &code, &["--on-crash", "pause"]);
        vm.await_say();
        vm.await_line(told);
        vm.command("pause");
        // It goes on where it stands: in the same fault, or the same sleep.
        vm.command("resume");
        vm.await_line(told);
        vm.command("reset");
        vm.await_say();
        vm.await_line(told);
        // A crashed guest sees no power button.
        vm.end("shutdown");
    }
}

#[test]
fn a_watcher_has_the_registers_in_the_event() {
    let stage = Stage::new();
    let code = [&SAY[..], &MARK, &FAULT].concat();
    let mut vm = Running::start(&stage, &code, &["--on-crash", "pause"]);
    vm.await_line("the guest crashed");
    let mut watcher = bulkhead_harness::programs::bulkhead();
    watcher.args(["events", stage.name()]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watcher = watcher.spawn().unwrap();
    let mut events = BufReader::new(watcher.stdout.take().unwrap());
    // The watcher is there once it tells of something.
    let mut line = String::new();
    while !line.contains("guest-crashed") {
        vm.command("resume");
        line.clear();
        events.read_line(&mut line).unwrap();
    }
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    let crash = &event["kind"]["guest-crashed"];
    assert_eq!((&crash["vcpu"], &crash["reason"]), (&0.into(), &"triple fault".into()), "{line}");
    assert_eq!(crash["registers"]["rax"], "0x1234567", "{line}");
    vm.end("kill");
    watcher.wait().unwrap();
}

#[test]
fn under_kvm_a_triple_fault_is_told_too() {
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("skipped: no usable /dev/kvm");
        return;
    }
    let stage = Stage::new();
    let kernel = stage.kernel_of(&FAULT);
    let output = stage.run(&["--kernel", &kernel, "--memory", "64M", "--cpu", "kvm"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("the guest crashed: vCPU 0: triple fault at 0x"), "{text}");
}
