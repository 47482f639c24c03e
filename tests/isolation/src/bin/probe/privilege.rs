//! Privilege: ids, capabilities, namespaces, filters, limits, priority.

use crate::Attempt;
use crate::call::sys;
use crate::scene::{Loot, Scene, nothing, number, of};

pub const ATTEMPTS: &[(&str, Attempt)] = &[
    ("become root", |_| {
        sys(libc::SYS_setresuid, [0, 0, 0])?;
        capabilities()
    }),
    ("become another user", |_| number(sys(libc::SYS_setresuid, [1, 1, 1]))),
    ("become another group", |_| number(sys(libc::SYS_setresgid, [1, 1, 1]))),
    ("take capabilities", take_capabilities),
    ("raise an ambient capability", |_| {
        let (option, raise) = (libc::PR_CAP_AMBIENT as u64, libc::PR_CAP_AMBIENT_RAISE as u64);
        sys(libc::SYS_prctl, [option, raise, 0, 0, 0])?;
        Ok(b"raised".to_vec())
    }),
    ("unshare users", |_| {
        sys(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64])?;
        capabilities()
    }),
    ("unshare the network", |_| number(sys(libc::SYS_unshare, [libc::CLONE_NEWNET as u64]))),
    ("unshare mounts", |_| number(sys(libc::SYS_unshare, [libc::CLONE_NEWNS as u64]))),
    ("join the host's network", |scene| number(sys(libc::SYS_setns, [scene.host_network(), 0]))),
    ("join the victim's namespaces", |scene| {
        let all = libc::CLONE_NEWNS | libc::CLONE_NEWNET;
        number(sys(libc::SYS_setns, [scene.victim_pidfd(), all as u64]))
    }),
    ("add a key", |_| {
        let payload = c"x".as_ptr() as u64;
        let session = libc::KEY_SPEC_PROCESS_KEYRING as u64;
        let kind = c"user".as_ptr() as u64;
        number(sys(libc::SYS_add_key, [kind, payload, payload, 1, session]))
    }),
    ("use a keyring", |_| {
        let join_session = 1;
        number(sys(libc::SYS_keyctl, [join_session, 0, 0, 0, 0]))
    }),
    ("loosen the filter", loosen_filter),
    ("take the filter off", |_| {
        number(sys(libc::SYS_prctl, [libc::PR_SET_SECCOMP as u64, 0, 0, 0, 0]))
    }),
    ("make dumpable", |_| {
        sys(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0])?;
        number(sys(libc::SYS_prctl, [libc::PR_GET_DUMPABLE as u64, 0, 0, 0, 0]))
    }),
    ("name a tracer", |scene| {
        number(sys(libc::SYS_prctl, [libc::PR_SET_PTRACER as u64, scene.victim(), 0, 0, 0]))
    }),
    ("move its own memory map", |_| {
        let (option, brk) = (libc::PR_SET_MM as u64, libc::PR_SET_MM_START_BRK as u64);
        number(sys(libc::SYS_prctl, [option, brk, 0x10000, 0, 0]))
    }),
    ("outlive its parent", |_| {
        sys(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as u64, 0, 0, 0, 0])?;
        Ok(b"immortal".to_vec())
    }),
    ("raise a limit", raise_limit),
    ("raise a limit the old way", |_| {
        let mut limit = [1u64 << 20, 1 << 20];
        number(sys(libc::SYS_setrlimit, [u64::from(libc::RLIMIT_NOFILE), of(&mut limit)]))
    }),
    ("real-time scheduling", |_| {
        let mut priority = 1i32;
        number(sys(libc::SYS_sched_setscheduler, [0, libc::SCHED_FIFO as u64, of(&mut priority)]))
    }),
    ("raise priority", |_| {
        number(sys(libc::SYS_setpriority, [libc::PRIO_PROCESS as u64, 0, -5i64 as u64]))
    }),
    ("take groups", |_| {
        let mut groups = [0u32];
        number(sys(libc::SYS_setgroups, [1, of(&mut groups)]))
    }),
    ("move the victim to another CPU", |scene| {
        let mut mask = [1u64; 16];
        number(sys(libc::SYS_sched_setaffinity, [scene.victim(), 8, of(&mut mask)]))
    }),
    ("change the host name", |_| number(sys(libc::SYS_sethostname, [c"x".as_ptr() as u64, 1]))),
];

/// The capabilities that the process has now, if there are any.
fn capabilities() -> Loot {
    let mut header = [0x2008_0522u32, 0];
    let mut sets = [0u32; 6];
    sys(libc::SYS_capget, [of(&mut header), of(&mut sets)])?;
    let any = sets.iter().any(|set| *set != 0);
    if any { Ok(sets.iter().flat_map(|set| set.to_le_bytes()).collect()) } else { Err(nothing()) }
}

fn take_capabilities(_: &Scene) -> Loot {
    let mut header = [0x2008_0522u32, 0];
    let mut sets = [u32::MAX, u32::MAX, 0, 0, 0, 0];
    sys(libc::SYS_capset, [of(&mut header), of(&mut sets)])?;
    capabilities()
}

/// Installs a filter that lets everything through and tries a call that was forbidden.
fn loosen_filter(_: &Scene) -> Loot {
    let mut program = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    let mut whole = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    sys(libc::SYS_seccomp, [mode, 0, of(&mut whole)])?;
    let forbidden = sys(libc::SYS_getppid, [])?;
    Ok(forbidden.to_le_bytes().to_vec())
}

fn raise_limit(_: &Scene) -> Loot {
    let resource = u64::from(libc::RLIMIT_NOFILE);
    let mut limit = [0u64; 2];
    sys(libc::SYS_prlimit64, [0, resource, 0, of(&mut limit)])?;
    let before = limit[1];
    limit = [before + 1, before + 1];
    sys(libc::SYS_prlimit64, [0, resource, of(&mut limit), 0])?;
    Ok(before.to_le_bytes().to_vec())
}
