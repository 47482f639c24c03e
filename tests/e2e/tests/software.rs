//! Machines without KVM: the guest is executed by a sealed process of its own.

mod stage;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bulkhead_harness::engine::{class, software};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, processes_of, refused};

fn started(stage: &Stage, cpu: &str, options: &[&str]) -> Child {
    stage.started(&[&["--cpu", cpu], options].concat())
}

/// Without a compiler and with one, and the class of process that each takes.
const ENGINES: [(&str, &str); 2] = [("soft,jit=off", "soft-cpu"), ("soft,jit=on", "soft-cpu-jit")];

fn pid_of(stage: &Stage, role: &str) -> Pid {
    let processes = processes_of(stage.name());
    let process = processes.iter().find(|one| one["role"] == role).expect("it is there");
    Pid::from_raw(process["pid"].as_i64().expect("a pid").try_into().expect("a pid"))
}

/// What the audit says of the executable memory of a process of this class.
fn executable_memory(stage: &Stage, role: &str) -> String {
    let audit = stage.command(&["audit", stage.name(), "--json"]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    let found: serde_json::Value = serde_json::from_slice(&audit.stdout).expect("JSON");
    let found = found.as_array().or_else(|| found["findings"].as_array()).expect("a list");
    let is_it =
        |one: &&serde_json::Value| one["role"] == role && one["check"] == "executable memory";
    let finding = found.iter().find(is_it).expect("it was asked");
    finding["detail"].as_str().expect("text").to_owned()
}

#[test]
fn only_who_compiles_has_executable_memory_beside_its_text() {
    for (cpu, role) in ENGINES {
        let stage = Stage::new();
        let mut child = started(&stage, cpu, &["--cpus", "2"]);
        let expected = match role {
            "soft-cpu-jit" => "its own text, and 2 code memories of 8 declared",
            _ => "its own text only",
        };
        assert_eq!(executable_memory(&stage, role), expected);
        assert!(stage.command(&["kill", stage.name()]).status.success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn the_guest_has_a_process_of_its_own_that_is_as_declared() {
    for (cpu, role) in ENGINES {
        is_as_declared(cpu, role);
    }
}

fn is_as_declared(cpu: &str, role: &str) {
    let stage = Stage::new();
    let disk = format!("path={},format=raw", stage.image(1 << 20));
    let console = format!("file={}", stage.path("console"));
    let options = ["--disk", &disk, "--console", &console, "--rng", "--cpus", "2"];
    let mut child = started(&stage, cpu, &options);
    pid_of(&stage, role);
    let audit = stage.command(&["audit", stage.name()]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    assert!(stage.command(&["pause", stage.name()]).status.success());
    assert!(stage.command(&["resume", stage.name()]).status.success());
    assert!(stage.command(&["kill", stage.name()]).status.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Its state is the guest: there is nothing that a successor could go on with.
#[test]
fn its_death_ends_the_vm() {
    let stage = Stage::new();
    let child = started(&stage, &software(), &[]);
    kill(pid_of(&stage, class()), Signal::SIGKILL).expect("it lives");
    let output = child.wait_with_output().expect("output");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("{} died: SIGKILL", class())), "{text}");
}

/// A disk of 4096-byte blocks, of which the nth is a function that answers n (`mov eax, n; ret`).
fn functions(stage: &Stage) -> String {
    let block = |number: u32| {
        let mut block = [0xcc; 4096];
        block[0] = 0xb8;
        block[1..5].copy_from_slice(&number.to_le_bytes());
        block[5] = 0xc3;
        block
    };
    stage.file("functions.img", &(0..100).flat_map(block).collect::<Vec<_>>())
}

/// The disk's process writes to guest memory without the engine, which has decoded what was there before.
#[test]
fn code_that_a_disk_reads_over_code_is_the_code_that_runs() {
    let stage = Stage::new();
    let disk = format!("path={},format=raw", functions(&stage));
    let kernel = stage.payload("dma");
    let options = ["--kernel", &kernel, "--cpu", &software(), "--debug-exit", "--disk", &disk];
    let output = stage.run(&options);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_test_kernel_ends_it_with_a_result() {
    let stage = Stage::new();
    // mov dx, 0xf4; mov al, 0x15; out dx, al; cli; hlt
    let code = [0x66, 0xba, 0xf4, 0, 0xb0, 0x15, 0xee, 0xfa, 0xf4];
    let kernel = stage.file("kernel", &bulkhead_harness::kernel::pvh(&code));
    for (cpu, _) in ENGINES {
        let output = stage.run(&["--kernel", &kernel, "--cpu", cpu, "--debug-exit"]);
        assert_eq!(output.status.code(), Some(0x2b), "{output:?}");
    }
}

#[test]
fn an_unknown_engine_or_key_and_too_many_cpus_are_refused() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let wrong =
        ["banana", "soft,jit=maybe", "soft,trace=", "soft,trace", "soft,jti=on", "kvm,jit=on"];
    for cpu in wrong {
        refused(stage.run(&["--kernel", &kernel, "--cpu", cpu]), &["--cpu", cpu]);
    }
    let output = stage.run(&["--kernel", &kernel, "--cpu", &software(), "--cpus", "9"]);
    refused(output, &["--cpus", "9", "1 to 8"]);
}

/// The programs, with another one in the place of the software CPU.
fn programs_with(stage: &Stage, software_cpu: &str) -> PathBuf {
    let folder = PathBuf::from(stage.path("bin"));
    std::fs::create_dir(&folder).unwrap();
    for program in std::fs::read_dir(bulkhead_harness::programs::folder()).unwrap() {
        let program = program.unwrap();
        std::fs::copy(program.path(), folder.join(program.file_name())).unwrap();
    }
    std::fs::copy(software_cpu, folder.join("bulkhead-soft-cpu")).unwrap();
    folder
}

#[test]
fn a_host_without_the_instruction_sets_is_refused() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let folder = programs_with(&stage, env!("CARGO_BIN_EXE_bulkhead-test-older-host"));
    for cpu in ["soft", "soft,jit=off"] {
        let mut command = Command::new(folder.join("bulkhead"));
        command.args(["run", "--name", stage.name(), "--kernel", &kernel, "--cpu", cpu]);
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        refused(output, &["--cpu", "soft", "lacks AES-NI", "--cpu kvm"]);
    }
}

/// Makes something by a script of the demo.
fn make(script: &str, arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo");
    let status = Command::new(folder.join(script)).args(arguments).stdout(Stdio::null()).status();
    assert!(status.expect("it starts").success(), "{script} failed");
}

#[test]
fn debian_boots_and_writes_to_its_disk() {
    let guest: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest");
    if !guest.join("vmlinux").exists() {
        eprintln!("skipped: packaging/fetch-kernel.sh was not run");
        return;
    }
    let stage = Stage::new();
    let (initrd, image) = (stage.path("initramfs"), stage.path("disk"));
    make("mk-initramfs.sh", &[&initrd, "guest"]);
    make("mk-disk.sh", &[&image, "24"]);
    for (kernel, cpu) in [("vmlinux", "soft,jit=on"), ("vmlinuz", "soft,jit=off")] {
        let kernel = guest.join(kernel);
        let disk = format!("path={image},format=raw");
        let append = "console=hvc0 quiet panic=-1 cryptomgr.notests bulkhead.script=stamp";
        let output = stage.run(&[
            "--cpu",
            cpu,
            "--memory",
            "256M",
            "--rng",
            "--console",
            "stdio",
            "--disk",
            &disk,
            "--initrd",
            &initrd,
            "--append",
            append,
            "--kernel",
            kernel.to_str().expect("text"),
        ]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("stamp: written"), "{output:?}");
        let check = Command::new("e2fsck").args(["-fn", &image]).output().expect("e2fsck");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}
