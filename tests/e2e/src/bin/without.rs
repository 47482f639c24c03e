//! Runs a program on a host that seems to lack something: `bulkhead-test-without CALL PROGRAM …`
//! answers the system call CALL with ENOSYS for it and all it starts. `user-namespace` is no call but a
//! flag of `clone`: only clones that have it are answered, with EPERM.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;

use bulkhead_sys::process::forbid_new_privileges;
use bulkhead_sys::seccomp::{Instruction, Threads, install};

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_ERRNO`.
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// `BPF_JMP | BPF_JSET | BPF_K`.
const ANY_BIT: u16 = 0x45;
/// Where `struct seccomp_data` of linux/seccomp.h has the lower half of the first argument.
const FIRST_ARGUMENT: u32 = 16;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let lacking = arguments.next().and_then(|word| word.into_string().ok()).expect("a system call");
    let program = arguments.next().expect("a program");
    let filter = match lacking.as_str() {
        "landlock" => without_call(libc::SYS_landlock_create_ruleset),
        "seccomp" => without_call(libc::SYS_seccomp),
        "user-namespace" => without_user_namespaces(),
        other => panic!("{other} is not one of those that can be taken away"),
    };
    forbid_new_privileges().expect("no new privileges");
    install(&filter, Threads::All).expect("the filter is installed");
    let error = std::process::Command::new(program).args(arguments).exec();
    panic!("cannot execute: {error}");
}

const fn at(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn without_call(number: libc::c_long) -> Vec<Instruction> {
    vec![
        at(LOAD, 0, 0, 0),
        at(EQUAL, 0, 1, number as u32),
        at(RETURN, 0, 0, ERRNO | libc::ENOSYS as u32),
        at(RETURN, 0, 0, ALLOW),
    ]
}

fn without_user_namespaces() -> Vec<Instruction> {
    vec![
        at(LOAD, 0, 0, 0),
        at(EQUAL, 0, 3, libc::SYS_clone as u32),
        at(LOAD, 0, 0, FIRST_ARGUMENT),
        at(ANY_BIT, 0, 1, libc::CLONE_NEWUSER as u32),
        at(RETURN, 0, 0, ERRNO | libc::EPERM as u32),
        at(RETURN, 0, 0, ALLOW),
    ]
}
