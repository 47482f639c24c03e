//! Runs a program under a filter that makes the host look as if it lacked something.
//!
//! `isolation-outer LAYER PROGRAM`: calls that need the layer are answered with EPERM, as a host
//! does that forbids them. The descriptors stay as they are.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use bulkhead_sys::process::forbid_new_privileges;
use bulkhead_sys::seccomp::{Instruction, Threads, install};
use nix::sched::CloneFlags;

const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;

/// Offset of the lower half of the first argument in `struct seccomp_data`.
const FIRST_ARGUMENT: u32 = 16;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let layer = arguments.next().expect("a layer");
    let program = arguments.next().expect("a program");
    forbid_new_privileges().expect("no new privileges");
    install(&filter(&layer), Threads::All).expect("a filter");
    panic!("{}", Command::new(program).exec());
}

fn filter(layer: &str) -> Vec<Instruction> {
    let flag = match layer {
        "user-namespace" => CloneFlags::CLONE_NEWUSER,
        "pid-namespace" => CloneFlags::CLONE_NEWPID,
        "mount-namespace" => CloneFlags::CLONE_NEWNS,
        "net-namespace" => CloneFlags::CLONE_NEWNET,
        "ipc-namespace" => CloneFlags::CLONE_NEWIPC,
        "uts-namespace" => CloneFlags::CLONE_NEWUTS,
        "cgroup-namespace" => CloneFlags::CLONE_NEWCGROUP,
        "landlock" => return refuse_call(libc::SYS_landlock_create_ruleset),
        other => panic!("no way to take {other} away"),
    };
    refuse_flag(flag.bits() as u32)
}

/// EPERM for `clone` and `unshare` with the flag.
fn refuse_flag(flag: u32) -> Vec<Instruction> {
    vec![
        at(LOAD, 0, 0, 0),
        at(IF_EQUAL, 1, 0, libc::SYS_clone as u32),
        at(IF_EQUAL, 0, 3, libc::SYS_unshare as u32),
        at(LOAD, 0, 0, FIRST_ARGUMENT),
        at(IF_ANY_BIT, 0, 1, flag),
        at(RETURN, 0, 0, EPERM),
        at(RETURN, 0, 0, ALLOW),
    ]
}

fn refuse_call(number: libc::c_long) -> Vec<Instruction> {
    vec![
        at(LOAD, 0, 0, 0),
        at(IF_EQUAL, 0, 1, number as u32),
        at(RETURN, 0, 0, EPERM),
        at(RETURN, 0, 0, ALLOW),
    ]
}

fn at(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}
