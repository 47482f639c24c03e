//! Runs a program on a host that seems to lack something: `bulkhead-test-without CALL PROGRAM …`
//! answers the system call CALL with ENOSYS (or EPERM, `CALL=EPERM`) for it and all it starts.
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

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let call = arguments.next().and_then(|call| call.into_string().ok()).expect("a system call");
    let program = arguments.next().expect("a program");
    let (name, error) = match call.strip_suffix("=EPERM") {
        Some(name) => (name, libc::EPERM),
        None => (call.as_str(), libc::ENOSYS),
    };
    let number = match name {
        "landlock_create_ruleset" => libc::SYS_landlock_create_ruleset,
        "clone3" => libc::SYS_clone3,
        "clone" => libc::SYS_clone,
        "unshare" => libc::SYS_unshare,
        "pivot_root" => libc::SYS_pivot_root,
        other => panic!("{other} is not one of those that can be taken away"),
    };
    let at = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let filter = [
        at(LOAD, 0, 0, 0),
        at(EQUAL, 0, 1, u32::try_from(number).expect("a small number")),
        at(RETURN, 0, 0, ERRNO | u32::try_from(error).expect("a small number")),
        at(RETURN, 0, 0, ALLOW),
    ];
    forbid_new_privileges().expect("no new privileges");
    install(&filter, Threads::All).expect("the filter is installed");
    let error = std::process::Command::new(program).args(arguments).exec();
    panic!("cannot execute: {error}");
}
