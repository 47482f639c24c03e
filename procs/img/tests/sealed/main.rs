//! The process that does the work: what it is, what it holds, and what its death and its command's death
//! come to.

#[path = "../program/mod.rs"]
mod program;
mod working;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use program::{must, ours};
use tempfile::TempDir;
use working::Working;

#[test]
fn it_is_sealed_and_holds_the_files_of_its_command_and_nothing_else() {
    let folder = TempDir::new().expect("a folder");
    let working = Working::begin(folder.path());
    let status = working.status();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    assert_eq!(of("Seccomp:"), "2");
    assert_eq!(of("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(of(set), "0000000000000000", "{set}");
    }
    let root = fs::read_dir(format!("/proc/{}/root", working.tool)).expect("its root");
    assert_eq!(root.count(), 0, "its root is empty");
    for space in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{space}")).expect("a namespace");
        assert_ne!(of(working.tool), of(std::process::id() as i32), "{space}");
    }
    let held = working.descriptors();
    let [null, other_null, log, channel, files @ ..] = &held[..] else {
        panic!("{held:?}");
    };
    assert_eq!([null.as_str(), other_null], ["/dev/null", "/dev/null"]);
    assert!(log.starts_with("pipe:") && channel.starts_with("socket:"), "{held:?}");
    let ends = |name: &&String| name.rsplit('/').next().unwrap_or_default().to_owned();
    let names: Vec<String> = files.iter().collect::<Vec<_>>().iter().map(ends).collect();
    assert_eq!(names, ["hole.raw", "out.q"]);
}

#[test]
fn it_dies_with_its_command() {
    let folder = TempDir::new().expect("a folder");
    let mut working = Working::begin(folder.path());
    working.signal(Signal::SIGKILL);
    assert_eq!(working.end().status.signal(), Some(9));
    working.wait_until_gone();
    // Nobody holds its locks.
    let source = folder.path().join("hole.raw");
    let resized = ours(&["resize", "-f", "raw", "hole.raw", "+1M"], folder.path());
    assert!(resized.status.success(), "{source:?}: {resized:?}");
}

#[test]
fn its_death_is_one_line_and_leaves_nothing_half_made() {
    let folder = TempDir::new().expect("a folder");
    let mut working = Working::begin(folder.path());
    working.kill_tool();
    let output = working.end();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "bulkhead-img: the process that did the work has died (SIGKILL)\n");
    assert!(!folder.path().join("out.q").exists());
}

#[test]
fn a_command_that_is_interrupted_removes_what_it_made_and_tells_of_what_it_overwrote() {
    for (signal, code, existed) in [(Signal::SIGINT, 130, false), (Signal::SIGTERM, 143, true)] {
        let folder = TempDir::new().expect("a folder");
        let target = folder.path().join("out.q");
        if existed {
            fs::write(&target, "something else").expect("a file");
        }
        let mut working = Working::begin(folder.path());
        working.signal(signal);
        let output = working.end();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(target.exists(), existed);
        assert_eq!(said.contains("out.q was overwritten and is not finished"), existed, "{said}");
        working.wait_until_gone();
    }
}

#[test]
fn progress_is_told_to_whoever_asks() {
    let folder = TempDir::new().expect("a folder");
    let mut working = Working::begin(folder.path());
    working.signal(Signal::SIGUSR1);
    // It goes on: only the next signal ends it.
    working.wait_for_stderr();
    working.signal(Signal::SIGINT);
    let output = working.end();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("/100%)"), "{said}");
}

#[test]
fn a_reader_who_has_had_enough_ends_it_without_a_word() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path();
    must(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "many.q", "1M"], path);
    let mut command = std::process::Command::new(program::program());
    command.args(["map", "-f", "qcow2", "--output=json", "many.q"]).current_dir(path);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdout(writer).stderr(std::process::Stdio::piped()).output();
    let output = output.expect("bulkhead-img runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reader_who_does_not_read_keeps_nobody_from_obeying_a_signal() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path();
    let bytes: Vec<u8> = (0..2 << 20).map(|at| (at / 512 % 2) as u8).collect();
    fs::write(path.join("many.raw"), bytes).expect("a disk");
    let small = "cluster_size=512";
    let convert = ["convert", "-S", "512", "-f", "raw", "-O", "qcow2", "-o", small];
    must(&[&convert[..], &["many.raw", "many.q"]].concat(), path);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = std::process::Command::new(program::program());
        command.args(["map", "-f", "qcow2", "--output=json", "many.q"]).current_dir(path);
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        let probe = writer.try_clone().expect("a pipe");
        let mut running = command.stdout(writer).spawn().expect("bulkhead-img runs");
        drop(command);
        working::wait_until_full(&probe);
        let pid = nix::unistd::Pid::from_raw(running.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("it lives");
        let ended = working::wait_for(&mut running);
        assert_eq!(ended.and_then(|status| status.code()), Some(128 + signal as i32));
    }
}

#[test]
fn a_target_keeps_what_it_holds_until_nothing_can_be_refused_any_more() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path();
    let kept = vec![7; 1 << 20];
    fs::write(path.join("kept"), &kept).expect("a file");
    fs::write(path.join("disk.raw"), vec![1; 1 << 20]).expect("a disk");
    std::os::unix::fs::symlink("kept", path.join("link")).expect("a link");
    fs::hard_link(path.join("kept"), path.join("other")).expect("a link");
    let convert = ["convert", "-O", "qcow2", "-f"];
    let create = ["create", "-f", "qcow2", "-F", "raw", "-b"];
    let dd = ["dd", "-O", "qcow2", "of=kept", "-f"];
    let names = format!("data_file={}", "x".repeat(400));
    for refused in [
        &[&convert[..], &["qcow2", "disk.raw", "kept"]].concat()[..],
        &[&convert[..], &["raw", "-o", "cluster_size=3k", "disk.raw", "kept"]].concat(),
        &[&convert[..], &["raw", "-o", "compat=0.10,refcount_bits=1", "disk.raw", "kept"]].concat(),
        &[&convert[..], &["raw", "-o", "cluster_size=512", "disk.raw", "-l", "x", "kept"]].concat(),
        &[&create[..], &["kept", "kept", "1M"]].concat(),
        &[&create[..], &["kept", "link", "1M"]].concat(),
        &[&create[..], &["other", "kept", "1M"]].concat(),
        &[&create[..], &["link", "-o", "extended_l2=on,cluster_size=4k", "other", "1M"]].concat(),
        &[&create[..], &["disk.raw", "-o", "preallocation=full", "kept", "1M"]].concat(),
        &["create", "-f", "qcow2", "-o", "cluster_size=512", "kept", "1P"],
        &["create", "-f", "qcow2", "-o", &format!("cluster_size=512,{names}"), "kept", "1M"],
        &[&dd[..], &["qcow2", "if=disk.raw"]].concat(),
    ] {
        let output = ours(refused, path);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(!said.contains("was overwritten"), "{said}");
        assert!(fs::read(path.join("kept")).expect("a file") == kept, "{refused:?}: {said}");
    }
}

#[test]
fn a_command_that_was_installed_alone_says_what_is_missing() {
    let folder = TempDir::new().expect("a folder");
    let alone = folder.path().join("bulkhead-img");
    fs::copy(program::program(), &alone).expect("a copy");
    let output = std::process::Command::new(&alone).args(["info", "-f", "raw", "x"]).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("bulkhead-launcher") && said.contains("install all"), "{said}");
}
