//! A debugger at a VM's door: gdb itself, in batches, and clients that are none.

mod gdb;
mod stage;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use bulkhead_harness::engine::software;
use gdb::{Batch, Debian, talk};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Stage, processes_of, refused};

/// Guards against a hang; nothing is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says `!`, then for ever `again: add dword [ebx], 1; jmp again`, which is the same in 32 and 64 bits.
/// The counter is the first word of what the boot protocol left at EBX.
const COUNTER: [u8; 12] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'!', 0xee, 0x83, 0x03, 0x01, 0xeb, 0xfb];
/// `again`.
const AGAIN: &str = "0x100007";

fn counter(stage: &Stage) -> String {
    stage.file("counter", &bulkhead_harness::kernel::pvh(&COUNTER))
}

/// A VM of that kernel with a door for gdb, once it counts.
fn counting(stage: &Stage, options: &[&str]) -> Child {
    let (kernel, socket) = (counter(stage), stage.path("gdb.sock"));
    let all = ["--cpu", &software(), "--memory", "64M", "--kernel", &kernel, "--gdb", &socket];
    stage.spoken(&[&all[..], options].concat())
}

fn end(stage: &Stage, mut child: Child) {
    assert!(stage.command(&["kill", stage.name()]).status.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn pid_of(stage: &Stage, role: &str) -> Option<Pid> {
    let processes = processes_of(stage.name());
    let process = processes.iter().find(|one| one["role"] == role && one["state"] == "running")?;
    Some(Pid::from_raw(process["pid"].as_i64()?.try_into().ok()?))
}

#[test]
fn a_payload_is_stopped_looked_at_changed_and_let_go() {
    let stage = Stage::new();
    let child = counting(&stage, &[]);
    let said = Batch::new(&stage.path("gdb.sock"))
        .run(&[
            "python before = int(gdb.parse_and_eval('$rip')); assert 0x100007 <= before < 0x10000c",
            &format!("break *{AGAIN}"),
            "continue",
            "python at('0x100007'); count = counter()",
            "delete",
            "stepi",
            "python at('0x10000a'); assert counter() == count + 1",
            "stepi",
            "python at('0x100007')",
            "python gdb.execute('watch *(int*)%d' % value('$rbx'))",
            "continue",
            "python at('0x10000a'); assert counter() == count + 2",
            "delete",
            "set $rax = 0x1234567890",
            "set $eflags = $eflags | 1",
            "set $xmm3.v2_int64[1] = 77",
            "set {int}$rbx = 1000",
            "python assert value('$rax') == 0x1234567890 and value('$xmm3.v2_int64[1]') == 77",
            "python assert counter() == 1000",
            "print $eflags",
            "set $cr3 = 0x1000",
            "python assert value('$cr3') == 0",
            "x/2xb 0x40000000",
            "detach",
        ])
        .said;
    assert!(said.contains("[ CF ") && said.contains("Hardware watchpoint"), "{said}");
    assert!(said.contains("Cannot access memory at address 0x40000000"), "{said}");
    assert!(
        said.contains("Could not write registers"),
        "a control register is not written: {said}"
    );
    // It counts on from what was written, and a debugger may come again.
    let again = Batch::new(&stage.path("gdb.sock"));
    again.run(&["python assert counter() > 1000, counter()", "python print(counter())", "detach"]);
    end(&stage, child);
}

/// `add dword [ebx], 1` becomes `add dword [ebx], 3`: what was decoded before is not executed.
#[test]
fn code_that_a_debugger_writes_is_what_runs() {
    let stage = Stage::new();
    let child = counting(&stage, &[]);
    Batch::new(&stage.path("gdb.sock")).run(&[
        &format!("break *{AGAIN}"),
        "continue",
        "continue",
        "set {char}0x100009 = 3",
        "python count = counter()",
        "continue",
        "python assert counter() == count + 3",
        "detach",
    ]);
    end(&stage, child);
}

#[test]
fn a_guest_that_waits_says_nothing_before_a_debugger_lets_it() {
    let stage = Stage::new();
    let (kernel, socket) = (counter(&stage), stage.path("gdb.sock"));
    let wait = format!("{socket},wait");
    let options = ["--cpu", &software(), "--memory", "64M", "--kernel", &kernel, "--gdb", &wait];
    let mut child = stage.start(&options);
    let first = "python assert value('$rip') == 0x100000 and value('$cr0') & 1";
    Batch::new(&socket).run(&[first, "disconnect"]);
    let mut said = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(said, *b"!");
    end(&stage, child);
}

#[test]
fn an_interrupt_stops_both_processors() {
    let stage = Stage::new();
    let child = counting(&stage, &["--cpus", "2"]);
    let said = Batch::new(&stage.path("gdb.sock"))
        .run(&[
            "python interrupt_after(0.3)",
            "continue",
            "info threads",
            "thread 2",
            "python assert value('$rip') == 0xfff0, 'it waits to be started'",
            "thread 1",
            "stepi",
            "detach",
        ])
        .said;
    assert!(said.contains("vCPU 0") && said.contains("vCPU 1"), "{said}");
    assert!(said.contains("SIGINT"), "{said}");
    end(&stage, child);
}

/// The guest goes on, the client sees its connection close, and the next one is served.
#[test]
fn the_death_of_the_gdb_process_lets_the_guest_go() {
    let stage = Stage::new();
    let child = counting(&stage, &[]);
    let socket = stage.path("gdb.sock");
    let mut client = UnixStream::connect(&socket).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(talk(&mut client, "Z0,100007,1").contains("OK"));
    let before = pid_of(&stage, "gdb").expect("it runs");
    kill(before, Signal::SIGKILL).unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    let deadline = Instant::now() + PATIENCE;
    while pid_of(&stage, "gdb").is_none_or(|pid| pid == before) {
        assert!(Instant::now() < deadline, "no successor");
        std::thread::sleep(Duration::from_millis(10));
    }
    // No breakpoint is left, and it counts.
    let count = |text: &str| text.split("count=").nth(1).map(|rest| rest.trim().to_owned());
    let look = || {
        let said =
            Batch::new(&socket).run(&["python print('count=' + str(counter()))", "detach"]).said;
        count(said.lines().find(|line| line.starts_with("count=")).unwrap()).unwrap()
    };
    let first = look();
    assert_ne!(first, look());
    end(&stage, child);
}

/// Whatever is sent, the guest goes on, the other processes answer, and gdb is served afterwards.
#[test]
fn clients_that_are_no_debuggers_disturb_nothing() {
    let stage = Stage::new();
    let child = counting(&stage, &[]);
    let socket = stage.path("gdb.sock");
    let flood = vec![b'$'; 1 << 20];
    for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 5000], b"$g#00", b"+-+-\x03\x03", &flood] {
        let mut client = UnixStream::connect(&socket).unwrap();
        let _ = client.write_all(bytes);
    }
    // One that hangs: it holds the guest, as a debugger may, but nothing else.
    let hanging = UnixStream::connect(&socket).unwrap();
    assert!(stage.command(&["ps", stage.name()]).status.success());
    assert!(stage.command(&["audit", stage.name()]).status.success());
    let waiting = UnixStream::connect(&socket).unwrap();
    drop(hanging);
    drop(waiting);
    Batch::new(&socket).run(&["python counter()", "detach"]);
    let restarts = |process: &serde_json::Value| process["restarts"] == 0;
    assert!(processes_of(stage.name()).iter().all(restarts), "nobody died of it");
    end(&stage, child);
}

#[test]
fn a_port_is_the_loopbacks_and_a_place_that_is_taken_is_refused() {
    let stage = Stage::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let kernel = counter(&stage);
    let output = stage.run(&["--cpu", &software(), "--kernel", &kernel, "--gdb", &port]);
    refused(output, &["--gdb", &port, "another port"]);
    drop(taken);
    let file = stage.file("no-socket", b"");
    refused(
        stage.run(&["--kernel", &kernel, "--cpu", &software(), "--gdb", &file]),
        &["--gdb", &file],
    );
    let options = ["--cpu", &software(), "--memory", "64M", "--kernel", &kernel, "--gdb", &port];
    let child = stage.spoken(&options);
    Batch::new(&format!("127.0.0.1:{port}")).run(&["stepi", "detach"]);
    end(&stage, child);
}

#[test]
fn debians_kernel_is_stopped_at_a_symbol_and_stepped_through() {
    let Some(debian) = Debian::find() else { return };
    let stage = Stage::new();
    let symbols = debian.symbols(&stage, &["start_kernel", "__x64_sys_sync", "linux_banner"]);
    let [start, sync, banner] = symbols[..] else { panic!("{symbols:x?}") };
    let socket = stage.path("gdb.sock");
    let mut child = debian.start(&stage, &["--gdb", &format!("{socket},wait"), "--cpus", "2"]);
    let said = Batch::new(&socket)
        .run(&[
            // Before there are page tables with it.
            &format!("break *{start:#x}"),
            "continue",
            &format!("python at('{start:#x}')"),
            &format!("x/s {banner:#x}"),
            "python assert value('$cr0') >> 31 and value('$efer') & 0x400",
            "delete",
            "python step_and_check(100)",
            &format!("break *{sync:#x}"),
            "continue",
            &format!("python at('{sync:#x}'); assert value('$gs_base') >> 47"),
            // The return address on its stack is in the kernel, behind a call.
            "python back = value('*(unsigned long*)$rsp'); assert back >> 40 == 0xffffff",
            "info threads",
            "python step_and_check(100)",
            "delete",
            "detach",
        ])
        .said;
    assert!(said.contains("Linux version 6.1"), "{said}");
    assert!(said.contains("vCPU 0") && said.contains("vCPU 1"), "{said}");
    let mut rest = String::new();
    child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains("symbols: done"), "the guest went on to its end: {rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
