//! Where threads may run, and where this one runs now.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The CPUs the calling thread may run on, ascending.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Restricts process or thread `pid` (0: the caller) to `cpus`.
pub fn restrict(pid: i32, cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(pid), &set)?)
}

/// The CPU this thread runs on at this moment (a hint: it may move). No system call where the
/// kernel maps a vDSO.
pub fn current() -> Option<usize> {
    sched_getcpu().ok()
}
