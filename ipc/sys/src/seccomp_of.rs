//! Another process's seccomp filters, for `audit`.
//!
//! `PTRACE_SECCOMP_GET_FILTER` answers only an unsealed caller with CAP_SYS_ADMIN, and only while the
//! other process is stopped by ptrace. It is seized, not attached to: it gets no signal, and it goes
//! on when this returns, on every path.

use std::io;
use std::ptr::{null, null_mut};

use crate::seccomp::Instruction;

/// A filter's instructions.
pub type Program = Vec<Instruction>;

/// `PTRACE_SECCOMP_GET_FILTER` of linux/ptrace.h.
const SECCOMP_GET_FILTER: libc::c_uint = 0x420c;

/// Filters one process may stack; more is not ours.
const MOST: usize = 16;

/// How often a process that was told to stop is looked at before it is given up.
const LOOKS: u32 = 2_000;

/// Filters of the process's first thread, outermost (latest) first.
pub fn programs_of(pid: i32) -> io::Result<Vec<Program>> {
    let stopped = Seized::stop(pid)?;
    let mut programs = Vec::new();
    while programs.len() < MOST {
        match stopped.program(programs.len()) {
            Ok(program) => programs.push(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

struct Seized(i32);

impl Seized {
    fn stop(pid: i32) -> io::Result<Self> {
        request(libc::PTRACE_SEIZE, pid, 0, null_mut())?;
        let seized = Self(pid);
        request(libc::PTRACE_INTERRUPT, pid, 0, null_mut())?;
        for _ in 0..LOOKS {
            let mut status = 0;
            let flags = libc::__WALL | libc::WNOHANG;
            // SAFETY: `status` outlives the call.
            match unsafe { libc::waitpid(pid, &mut status, flags) } {
                0 => std::thread::sleep(std::time::Duration::from_micros(500)),
                found if found == pid && libc::WIFSTOPPED(status) => return Ok(seized),
                _ => return Err(io::Error::last_os_error()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn program(&self, index: usize) -> io::Result<Program> {
        let len = request(SECCOMP_GET_FILTER, self.0, index, null_mut())?;
        let blank = Instruction { code: 0, jt: 0, jf: 0, k: 0 };
        let mut program = vec![blank; usize::try_from(len).unwrap_or(0)];
        let room = program.as_mut_ptr().cast();
        request(SECCOMP_GET_FILTER, self.0, index, room)?;
        Ok(program)
    }
}

impl Drop for Seized {
    fn drop(&mut self) {
        let _ = request(libc::PTRACE_DETACH, self.0, 0, null_mut());
    }
}

fn request(
    what: libc::c_uint,
    pid: i32,
    address: usize,
    data: *mut libc::c_void,
) -> io::Result<libc::c_long> {
    let address = null::<libc::c_void>().wrapping_byte_add(address);
    // SAFETY: the requests made here write nothing but a filter to `data`, which is null or has room
    // for as many instructions as the same request has just counted.
    match unsafe { libc::ptrace(what, pid, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_filters_shows_none_or_may_not_be_seen() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let found = programs_of(child.id() as i32);
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(programs) = found {
            assert!(programs.is_empty());
        }
    }
}
