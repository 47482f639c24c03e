//! The launcher as a process: what it answers to commands that do not fit, and how it ends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_isolation::binaries;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{LauncherCommand, LauncherEvent};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::pidfd::PidFd;
use bulkhead_sys::spawn::spawn;

fn launcher() -> (Child, Channel) {
    let (channel, theirs) = Channel::pair().unwrap();
    let mut command = Command::new(binaries::program("bulkhead-launcher"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = spawn(&mut command, &[(theirs.as_fd(), 3)]).unwrap();
    (child, channel)
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn event(channel: &Channel) -> (LauncherEvent, Vec<OwnedFd>) {
    channel.receive_by(deadline()).expect("it answers")
}

fn plan(channel: &Channel, program: &Path) {
    let binary = File::open(program).unwrap();
    let plan = LauncherCommand::Plan {
        binaries: vec![ProcessClass::VhostRng],
        cgroups: Vec::new(),
        weaker: Vec::new(),
    };
    channel.send(&plan, &[binary.as_fd()]).unwrap();
    assert_eq!(event(channel).0, LauncherEvent::Ready);
}

/// Asks for a start and says what was answered instead.
fn refusal(channel: &Channel, class: ProcessClass, argument: &str) -> (String, Vec<OwnedFd>) {
    let null = File::open("/dev/null").unwrap();
    let command = LauncherCommand::Start {
        ticket: 7,
        class,
        id: "../../x".into(),
        ordinal: 0,
        arguments: vec![argument.into()],
        cpus: Vec::new(),
    };
    let fds: [BorrowedFd<'_>; 2] = [null.as_fd(), null.as_fd()];
    channel.send(&command, &fds).unwrap();
    match event(channel) {
        (LauncherEvent::Failed { ticket: 7, layer: None, reason, .. }, fds) => (reason, fds),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_before_the_plan_or_outside_of_it_is_refused() {
    let (mut child, channel) = launcher();
    let (reason, fds) = refusal(&channel, ProcessClass::VhostRng, "");
    assert!(reason.contains("the plan has no vhost-rng") && fds.is_empty(), "{reason}");
    plan(&channel, Path::new(env!("CARGO_BIN_EXE_isolation-probe")));
    let (reason, _) = refusal(&channel, ProcessClass::Core, "");
    assert!(reason.contains("the plan has no core"), "{reason}");
    let (reason, _) = refusal(&channel, ProcessClass::VhostRng, "a\0b");
    assert!(reason.contains("nul byte"), "{reason}");
    channel.send(&LauncherCommand::Stop, &[]).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_no_program_is_a_failed_exec_and_the_child_is_handed_over() {
    let (mut child, channel) = launcher();
    plan(&channel, Path::new("/etc/passwd"));
    let (reason, fds) = refusal(&channel, ProcessClass::VhostRng, "");
    assert!(reason.starts_with("exec: "), "{reason}");
    let pidfd = fds.into_iter().next().map(PidFd::from_fd).expect("its pidfd");
    pidfd.wait_dead(deadline()).unwrap();
    assert!(pidfd.reap().unwrap().is_some());
    drop(channel);
    assert!(child.wait().unwrap().success(), "a closed channel is no fault");
}

#[test]
fn what_is_no_command_ends_it_with_a_line_and_status_1() {
    let (child, channel) = launcher();
    bulkhead_sys::seqpacket::send(channel.as_fd(), b"nonsense, and more", &[]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.starts_with("launcher: the supervisor: ") && words.lines().count() == 1,
        "{words}"
    );
}

#[test]
fn forgetting_what_was_never_started_is_no_fault() {
    let (mut child, channel) = launcher();
    channel.send(&LauncherCommand::Forget { ticket: 99 }, &[]).unwrap();
    plan(&channel, Path::new(env!("CARGO_BIN_EXE_isolation-probe")));
    drop(channel);
    assert!(child.wait().unwrap().success());
}
