//! Others: core, siblings, anybody on the host.

use crate::Attempt;
use crate::call::sys;
use crate::scene::{Loot, Scene, at, nothing, number, of};

pub const ATTEMPTS: &[(&str, Attempt)] = &[
    ("ptrace", |scene| {
        number(sys(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), scene.victim(), 0, 0]))
    }),
    ("seize", |scene| number(sys(libc::SYS_ptrace, [0x4206, scene.victim(), 0, 0]))),
    ("read memory", |scene| memory(libc::SYS_process_vm_readv, scene)),
    ("write memory", |scene| memory(libc::SYS_process_vm_writev, scene)),
    ("kill everybody", |_| number(sys(libc::SYS_kill, [u64::MAX, 9]))),
    ("kill the victim", |scene| number(sys(libc::SYS_kill, [scene.victim(), 9]))),
    ("kill its parent", |_| number(sys(libc::SYS_kill, [0, 9]))),
    ("signal by pidfd", |scene| {
        number(sys(libc::SYS_pidfd_send_signal, [scene.victim_pidfd(), 9, 0, 0]))
    }),
    ("signal a thread", |scene| number(sys(libc::SYS_tgkill, [scene.victim(), scene.victim(), 9]))),
    ("signal a task", |scene| number(sys(libc::SYS_tkill, [scene.victim(), 9]))),
    ("queue a signal", |scene| {
        let mut info = [0u32; 32];
        info[0] = 9;
        info[2] = (-1i32).cast_unsigned();
        number(sys(libc::SYS_rt_sigqueueinfo, [scene.victim(), 9, of(&mut info)]))
    }),
    ("open a pidfd", |scene| number(sys(libc::SYS_pidfd_open, [scene.victim(), 0]))),
    ("take a descriptor", |scene| number(sys(libc::SYS_pidfd_getfd, [scene.victim_pidfd(), 0, 0]))),
    ("perf", |scene| {
        let mut attributes = [0u64; 16];
        attributes[0] = 128 << 32 | 1;
        let none = u64::MAX;
        number(sys(libc::SYS_perf_event_open, [of(&mut attributes), scene.victim(), none, none, 0]))
    }),
    ("bpf", |_| {
        let mut attributes = [2u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        number(sys(libc::SYS_bpf, [0, of(&mut attributes), 72]))
    }),
    ("compare", |scene| number(sys(libc::SYS_kcmp, [1, scene.victim(), 1, 0, 0]))),
    ("move pages", |scene| {
        let mut page = at(c"") & !4095;
        let mut status = 0i32;
        let pages = of(&mut page);
        number(sys(libc::SYS_move_pages, [scene.victim(), 1, pages, 0, of(&mut status), 0]))
    }),
    ("advise", |scene| {
        let mut range = [4096u64, 4096];
        let cold = libc::MADV_COLD as u64;
        let pidfd = scene.victim_pidfd();
        number(sys(libc::SYS_process_madvise, [pidfd, of(&mut range), 1, cold, 0]))
    }),
    ("reap memory", |scene| number(sys(libc::SYS_process_mrelease, [scene.victim_pidfd(), 0]))),
    ("own a signal source", own_signal_source),
    ("limit the victim", |scene| {
        let mut limit = [1u64, 1];
        let files = u64::from(libc::RLIMIT_NOFILE);
        number(sys(libc::SYS_prlimit64, [scene.victim(), files, of(&mut limit), 0]))
    }),
    ("reschedule the victim", |scene| {
        number(sys(libc::SYS_setpriority, [libc::PRIO_PROCESS as u64, scene.victim(), 19]))
    }),
    ("shared memory segment", |_| number(sys(libc::SYS_shmget, [0x42, 4096, 0o1600]))),
    ("semaphores", |_| number(sys(libc::SYS_semget, [0x42, 1, 0o1600]))),
    ("message queue", |_| number(sys(libc::SYS_msgget, [0x42, 0o1600]))),
    ("posix message queue", |_| {
        let flags = (libc::O_CREAT | libc::O_RDWR) as u64;
        number(sys(libc::SYS_mq_open, [at(c"x"), flags, 0o600, 0]))
    }),
    ("type into a terminal", |_| {
        let mut key = b'x';
        number(sys(libc::SYS_ioctl, [0, libc::TIOCSTI, of(&mut key)]))
    }),
    ("reboot", |_| number(sys(libc::SYS_reboot, [0xfee1_dead, 672_274_793, 0, 0]))),
    ("set the clock", |_| {
        let mut time = [0u64; 2];
        number(sys(libc::SYS_clock_settime, [0, of(&mut time)]))
    }),
    ("read the kernel log", |_| {
        let mut text = [0u8; 64];
        number(sys(libc::SYS_syslog, [3, of(&mut text), 64]))
    }),
];

/// `F_SETSIG` of asm-generic/fcntl.h.
const F_SETSIG: u64 = 10;

fn memory(call: libc::c_long, scene: &Scene) -> Loot {
    let mut bytes = [0u8; 8];
    let mut local = [of(&mut bytes), 8];
    let mut remote = [at(c""), 8];
    number(sys(call, [scene.victim(), of(&mut local), 1, of(&mut remote), 1, 0]))
}

/// SIGIO to the victim whenever something happens on a descriptor.
fn own_signal_source(scene: &Scene) -> Loot {
    let channel = 3;
    sys(libc::SYS_fcntl, [channel, F_SETSIG, 9])?;
    sys(libc::SYS_fcntl, [channel, libc::F_SETOWN as u64, scene.victim()])?;
    let owner = sys(libc::SYS_fcntl, [channel, libc::F_GETOWN as u64, 0])?;
    if owner == scene.victim() { Ok(owner.to_le_bytes().to_vec()) } else { Err(nothing()) }
}
