//! One system call of a process fails, as if the kernel had refused it: it is not made, but where a refusal
//! does something.
//!
//! A tracer exchanges the number of the call for that of one that does nothing, before the process's filter
//! looks at it, and the result for an error. The thread that traces ends then, which lets the process go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Which call fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its number.
    pub call: libc::c_long,
    /// Calls of that number that are let through before.
    pub after: u64,
    /// What it is said to have met.
    pub errno: Errno,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// The call failed.
    Failed,
    /// It was not made in time.
    Spared,
    /// The process ended before.
    Gone,
    /// The host lets nobody trace it.
    Denied,
}

/// How long the call is waited for at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process is traced.
#[derive(Debug)]
pub struct Tracing {
    over: Arc<AtomicBool>,
    tracer: JoinHandle<Came>,
}

impl Tracing {
    /// Lets the process go, and says what came of the fault.
    pub fn end(self) -> Came {
        self.over.store(true, Ordering::Relaxed);
        self.tracer.join().expect("the tracer")
    }
}

/// Waits for the call in a thread of its own, which alone may trace.
pub fn fail_once(pid: i32, fault: Fault) -> Tracing {
    let over = Arc::new(AtomicBool::new(false));
    let tracer = Tracer { fault, left: fault.after, pending: None, over: Arc::clone(&over) };
    Tracing { over, tracer: thread::spawn(move || tracer.run(pid)) }
}

struct Tracer {
    fault: Fault,
    left: u64,
    /// The thread whose call is not made.
    pending: Option<Pid>,
    /// Nobody waits for it any more.
    over: Arc<AtomicBool>,
}

impl Tracer {
    fn run(mut self, pid: i32) -> Came {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            return Came::Gone;
        };
        let mut inside = HashMap::new();
        for thread in threads.flatten() {
            let number = thread.file_name().to_string_lossy().parse().map(Pid::from_raw);
            let Ok(thread) = number else { continue };
            match ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD) {
                Ok(()) => {}
                Err(Errno::EPERM) => return Came::Denied,
                Err(_) => return Came::Gone,
            }
            let _stops = ptrace::interrupt(thread);
            inside.insert(thread, false);
        }
        let end = Instant::now() + PATIENCE;
        // A call that is not made has to be told so before its thread is let go.
        while self.pending.is_some() || (Instant::now() < end && !self.is_over()) {
            // Children of other threads are theirs. Under load, or by its heartbeat, there is always a next one.
            let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let went_on = match waitpid(None, Some(mine)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    let within = inside.entry(thread).or_insert(false);
                    *within = !*within;
                    let (enters, looked) = (*within, self.look(thread, *within));
                    if looked.is_ok_and(|over| over && !enters) {
                        return Came::Failed;
                    }
                    ptrace::syscall(thread, None)
                }
                Ok(WaitStatus::PtraceEvent(thread, ..)) => ptrace::syscall(thread, None),
                Ok(WaitStatus::Stopped(thread, signal)) => ptrace::syscall(thread, signal),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => {
                    return Came::Gone;
                }
                Ok(_) => Ok(()),
            };
            // A thread that was killed meanwhile is waited for next.
            let _gone = went_on;
        }
        Came::Spared
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A thread enters or leaves a call; whether that was the one.
    fn look(&mut self, thread: Pid, enters: bool) -> nix::Result<bool> {
        let mut registers = ptrace::getregs(thread)?;
        if !enters {
            if self.pending != Some(thread) {
                return Ok(false);
            }
            if self.fault.call != libc::SYS_brk {
                registers.rax = -i64::from(self.fault.errno as i32) as u64;
                ptrace::setregs(thread, registers)?;
            }
            return Ok(true);
        }
        if registers.orig_rax != self.fault.call as u64 || self.pending.is_some() {
            return Ok(false);
        }
        if self.left > 0 {
            self.left -= 1;
            return Ok(false);
        }
        match self.fault.call {
            // Which has no errors: one that changes nothing says where the heap ends, as a refusal does.
            libc::SYS_brk => registers.rdi = 0,
            // Whatever it says, the descriptor is closed.
            libc::SYS_close => {}
            _ => registers.orig_rax = libc::SYS_sched_yield as u64,
        }
        ptrace::setregs(thread, registers)?;
        self.pending = Some(thread);
        Ok(false)
    }
}
