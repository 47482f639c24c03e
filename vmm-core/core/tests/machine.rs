//! The real core binary, sealed, with guests of a few bytes.

mod stage;

use bulkhead_protocol::core::{CoreCommand, CoreEvent};
use bulkhead_protocol::start::{FromHelper, ToHelper};
use std::os::fd::AsFd;

use stage::{DEBUG_EXIT, Script, Stage, code, file, kernel, multiboot_kernel};

const MEMORY: u64 = 8 << 20;

fn one(kernel: &[u8]) -> Script<'_> {
    Script { cpus: 1, memory: MEMORY, kernel, stuffed: false, debug_exit: false }
}

/// The first event of every guest that writes to a port.
fn started(stage: &Stage) {
    assert_eq!(stage.event(), CoreEvent::GuestStarted);
}

#[test]
fn a_guest_prints_and_switches_itself_off() {
    let kernel = kernel(&[code::print("hello\n"), code::power_off()].concat());
    let Some(stage) = Stage::running(&one(&kernel)) else { return };
    started(&stage);
    assert_eq!(stage.read_until(b"\n"), b"hello\n");
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
    assert_eq!(stage.stop(), Some(0));
}

#[test]
fn a_multiboot_kernel_is_told_so_and_ends_its_machine_with_a_result() {
    let result = [0x66, 0xba, 0xf4, 0, 0xb8, 0x21, 0x43, 0x65, 0x87, 0xef];
    let code = [code::if_eax_is(0x2bad_b002, &result), code::halt()].concat();
    let kernel = multiboot_kernel(&code);
    let script = Script { debug_exit: true, ..one(&kernel) };
    let Some(stage) = Stage::running(&script) else { return };
    started(&stage);
    assert_eq!(stage.event(), CoreEvent::DebugExit { result: 0x8765_4321 });
    assert_eq!(stage.stop(), Some(0));
}

#[test]
fn a_test_kernel_ends_its_machine_with_a_byte() {
    let code = [code::print("x"), code::out8(DEBUG_EXIT, 0x10), code::halt()].concat();
    let kernel = kernel(&code);
    let script = Script { debug_exit: true, ..one(&kernel) };
    let Some(stage) = Stage::running(&script) else { return };
    started(&stage);
    assert_eq!(stage.event(), CoreEvent::DebugExit { result: 0x10 });
}

#[test]
fn a_guest_that_resets_the_machine_is_booted_again_with_a_fresh_kernel() {
    for (port, value) in [(0xcf9, 6), (0x64, 0xfe)] {
        let first =
            kernel(&[code::print("first\n"), code::out8(port, value), code::halt()].concat());
        let second = kernel(&[code::print("second\n"), code::power_off()].concat());
        let Some(stage) = Stage::running(&one(&first)) else { return };
        started(&stage);
        assert_eq!(stage.event(), CoreEvent::ResetRequested);
        let next = file(&second);
        stage.send(ToHelper::Role(CoreCommand::Boot { initrd: false }), &[next.as_fd()]);
        assert_eq!(stage.event(), CoreEvent::Running);
        assert_eq!(stage.event(), CoreEvent::PoweredOff);
        assert_eq!(stage.read_until(b"second\n"), b"first\nsecond\n");
    }
}

#[test]
fn the_reset_button_stops_a_guest_that_never_asks() {
    let kernel = kernel(&[code::print("x"), vec![0xeb, 0xfe]].concat());
    let Some(stage) = Stage::running(&Script { cpus: 2, ..one(&kernel) }) else { return };
    started(&stage);
    stage.command(CoreCommand::Reset);
    assert_eq!(stage.event(), CoreEvent::ResetRequested);
}

#[test]
fn the_power_button_reaches_the_guest() {
    let enable = code::out16(0x612, 1);
    let script =
        [code::print("ready\n"), enable, code::wait_for(0x610, 1), code::power_off()].concat();
    let kernel = kernel(&script);
    let Some(stage) = Stage::running(&one(&kernel)) else { return };
    started(&stage);
    stage.read_until(b"ready\n");
    stage.command(CoreCommand::PowerButton);
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

#[test]
fn a_paused_guest_stands_still_and_goes_on_where_it_was() {
    // Prints what comes in, as soon as it comes.
    let echo =
        [code::print("?"), code::wait_for(0x3fd, 1), vec![0x66, 0xba, 0xf8, 0x03, 0xec, 0xee]]
            .concat();
    let kernel = kernel(&[code::print("up\n"), echo.clone(), echo, code::power_off()].concat());
    let Some(stage) = Stage::running(&one(&kernel)) else { return };
    started(&stage);
    stage.read_until(b"?");
    stage.command(CoreCommand::Pause);
    assert_eq!(stage.event(), CoreEvent::Paused);
    bulkhead_sys::seqpacket::send_some(stage.serial.as_fd(), b"a", &[]).unwrap();
    // A heartbeat is answered while the guest stands still, and it shows that nothing was done.
    let progress = || {
        stage.send(ToHelper::Heartbeat(7), &[]);
        match stage.hear() {
            FromHelper::Alive { number: 7, progress } => progress,
            other => panic!("{other:?}"),
        }
    };
    let before = progress();
    assert_eq!(progress(), before);
    stage.command(CoreCommand::Resume);
    assert_eq!(stage.event(), CoreEvent::Resumed);
    assert_eq!(stage.read_until(b"?"), b"a?");
    bulkhead_sys::seqpacket::send_some(stage.serial.as_fd(), b"b", &[]).unwrap();
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
    assert_eq!(stage.read_until(b"b"), b"b");
}

/// No heartbeat comes here: a command that was taken while the kernel was loaded must not wait for one.
#[test]
fn a_command_that_comes_while_the_kernel_is_loaded_is_obeyed_without_another_message() {
    let kernel = kernel(&[code::print("x"), code::power_off()].concat());
    for _ in 0..10 {
        let Some(stage) = Stage::new(&one(&kernel)) else { return };
        stage.command(CoreCommand::Run);
        assert!(matches!(stage.hear(), FromHelper::Ready));
        assert_eq!(stage.event(), CoreEvent::Running);
        started(&stage);
        assert_eq!(stage.event(), CoreEvent::PoweredOff);
    }
}

#[test]
fn a_machine_paused_before_it_runs_starts_when_it_is_resumed() {
    let kernel = kernel(&[code::print("x"), code::power_off()].concat());
    let Some(stage) = Stage::new(&one(&kernel)) else { return };
    assert!(matches!(stage.hear(), FromHelper::Ready));
    stage.command(CoreCommand::Pause);
    assert_eq!(stage.event(), CoreEvent::Paused);
    stage.command(CoreCommand::Run);
    assert_eq!(stage.event(), CoreEvent::Running);
    stage.command(CoreCommand::Resume);
    assert_eq!(stage.event(), CoreEvent::Resumed);
    started(&stage);
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

/// `lidt` of an empty table, then an undefined instruction.
fn triple_fault() -> Vec<u8> {
    let mut script = vec![0x0f, 0x01, 0x1d];
    script.extend((stage::CODE + 16).to_le_bytes());
    script.extend([0x0f, 0x0b]);
    script.resize(32, 0);
    script
}

#[test]
fn a_triple_fault_is_a_crash_that_says_where() {
    let Some(stage) = Stage::running(&one(&kernel(&triple_fault()))) else { return };
    let CoreEvent::Crashed(crash) = stage.event() else { panic!() };
    assert!(crash.to_string().starts_with("vCPU 0: triple fault at 0x"), "{crash}");
}

#[test]
fn a_crashed_guest_can_be_booted_again_without_asking() {
    let Some(stage) = Stage::running(&one(&kernel(&triple_fault()))) else { return };
    assert!(matches!(stage.event(), CoreEvent::Crashed(_)));
    let next = file(&kernel(&[code::print("again\n"), code::power_off()].concat()));
    stage.send(ToHelper::Role(CoreCommand::Boot { initrd: false }), &[next.as_fd()]);
    assert_eq!(stage.event(), CoreEvent::Running);
    started(&stage);
    assert_eq!(stage.read_until(b"\n"), b"again\n");
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

/// More than the port keeps for a slow reader.
const FLOOD: usize = 80 << 10;

#[test]
fn output_beyond_what_the_reader_takes_waits_for_the_reader() {
    let kernel = kernel(&[code::flood(FLOOD), code::print("\n"), code::power_off()].concat());
    let Some(stage) = Stage::running(&Script { stuffed: true, ..one(&kernel) }) else { return };
    started(&stage);
    let text = stage.read_until(b"\n");
    let ours = text.iter().filter(|byte| **byte == code::FLOOD).count();
    assert_eq!(ours, FLOOD);
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

#[test]
fn a_reader_that_goes_away_stops_nobody() {
    let kernel = kernel(&[code::flood(FLOOD), code::power_off()].concat());
    let Some(mut stage) = Stage::running(&Script { stuffed: true, ..one(&kernel) }) else { return };
    started(&stage);
    stage.serial = file(b"");
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

#[test]
fn a_guest_that_touches_every_port_is_answered_every_time() {
    // xor edx, edx; again: in al, dx; xor al, al; out dx, al; inc dx; jnz again
    let sweep = vec![0x31, 0xd2, 0xec, 0x30, 0xc0, 0xee, 0x66, 0x42, 0x75, 0xf8];
    let kernel = kernel(&[sweep, code::print("alive\n"), code::power_off()].concat());
    let Some(stage) = Stage::running(&one(&kernel)) else { return };
    started(&stage);
    stage.read_until(b"alive\n");
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

#[test]
fn a_guest_that_writes_ones_all_over_configuration_space_is_answered_every_time() {
    // mov ebx, 0xe0000000; again: mov eax, [ebx+3]; or eax, -1; mov [ebx], eax; add ebx, 1028;
    // cmp ebx, 0xe0100000; jb again
    let mut sweep =
        vec![0xbb, 0x00, 0x00, 0x00, 0xe0, 0x8b, 0x43, 0x03, 0x83, 0xc8, 0xff, 0x89, 0x03];
    sweep.extend([0x81, 0xc3, 0x04, 0x04, 0, 0, 0x81, 0xfb, 0x00, 0x00, 0x10, 0xe0, 0x72, 0xe7]);
    let kernel = kernel(&[sweep, code::print("alive\n"), code::power_off()].concat());
    let Some(stage) = Stage::running(&one(&kernel)) else { return };
    started(&stage);
    stage.read_until(b"alive\n");
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
}

#[test]
fn what_is_no_kernel_is_refused_in_one_sentence() {
    let Some(stage) = Stage::new(&one(b"#!/bin/sh\n")) else { return };
    let CoreEvent::Refused { option, reason, remedy } = stage.event() else { panic!() };
    assert_eq!(option, "--kernel");
    assert_eq!(reason, "not a kernel: neither ELF with a PVH note, nor bzImage, nor multiboot");
    assert!(remedy.contains("bzImage"));
    assert_eq!(stage.stop(), Some(0));
}

#[test]
fn a_machine_of_sixteen_starts_and_stops() {
    let kernel = kernel(&[code::print("many"), code::power_off()].concat());
    let Some(stage) = Stage::running(&Script { cpus: 16, ..one(&kernel) }) else { return };
    started(&stage);
    assert_eq!(stage.event(), CoreEvent::PoweredOff);
    assert_eq!(stage.stop(), Some(0));
}
