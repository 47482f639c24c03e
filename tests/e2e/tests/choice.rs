//! `--cpu auto`: what executes the guest where the user leaves it open, and the one line about it.

mod stage;

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use bulkhead_harness::engine::software;
use stage::{Stage, refused};

/// A kernel that ends the machine with the result 0x15: mov dx, 0xf4; mov al, 0x15; out dx, al; cli; hlt.
fn kernel(stage: &Stage) -> String {
    let code = [0x66, 0xba, 0xf4, 0, 0xb0, 0x15, 0xee, 0xfa, 0xf4];
    stage.file("kernel", &bulkhead_harness::kernel::pvh(&code))
}

/// What was said of the choice, of a guest that ran to its end.
fn choices(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(0x2b), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.contains("cpu: ")).map(str::to_owned).collect()
}

#[test]
fn a_choice_is_told_in_one_line_with_its_reason() {
    let stage = Stage::new();
    let kernel = kernel(&stage);
    for options in [&[][..], &["--cpu", "auto"]] {
        let arguments = [&["--kernel", &kernel, "--debug-exit"], options].concat();
        let lines = choices(&stage.run(&arguments));
        let [line] = &*lines else { panic!("one line: {lines:?}") };
        let engine = ["bulkhead: cpu: kvm (", "bulkhead: cpu: soft ("];
        assert!(engine.iter().any(|words| line.starts_with(words)), "{line}");
        assert!(line.contains("million instructions") || line.contains("/dev/kvm: "), "{line}");
    }
}

#[test]
fn what_the_user_chose_is_not_told() {
    let stage = Stage::new();
    let kernel = kernel(&stage);
    let arguments = ["--kernel", &kernel, "--debug-exit", "--cpu", &software()];
    assert_eq!(choices(&stage.run(&arguments)), Vec::<String>::new());
}

#[test]
fn software_is_taken_where_kvm_may_not_be_opened() {
    let stage = Stage::new();
    let closed = |path| std::fs::metadata(path).is_ok_and(|kvm| kvm.permissions().mode() & 6 == 0);
    if !stage.is_root() || !closed("/dev/kvm") {
        eprintln!("skipped: only root can become a user who may not open /dev/kvm");
        return;
    }
    let kernel = kernel(&stage);
    let lines = choices(&stage.run_as_nobody(&["--kernel", &kernel, "--debug-exit"]));
    assert_eq!(lines, ["bulkhead: cpu: soft (/dev/kvm: permission denied)"]);
}

#[test]
fn a_refusal_is_still_one_line() {
    let stage = Stage::new();
    refused(stage.run(&["--cpu", "auto", "--kernel", "/no/such/kernel"]), &["--kernel"]);
}

#[test]
fn a_plan_names_the_engine() {
    let stage = Stage::new();
    let kernel = kernel(&stage);
    for (cpu, words) in [("soft,jit=off", "(soft, jit off)"), ("soft", "(soft, jit on)")] {
        let output = stage.run(&["--kernel", &kernel, "--cpu", cpu, "--dry-run"]);
        let plan = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && plan.contains(&format!("cpus     1 {words}")), "{plan}");
    }
}
