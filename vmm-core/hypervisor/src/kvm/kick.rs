//! Ending another thread's `KVM_RUN`.
//!
//! A signal alone would be lost if it came just before the thread enters the kernel. So the handler,
//! which runs *on* the vCPU's thread, sets `immediate_exit` in that vCPU's run page: whichever comes
//! first, the ioctl under way or the next one returns with EINTR.
//!
//! ```text
//! kicker                     vCPU thread
//!   requested = true           bind(): run page and thread number are known
//!   tgkill(thread) ─────────►  handler: run page's immediate_exit = 1
//!                              KVM_RUN → EINTR → immediate_exit = 0, requested = false
//! ```
//!
//! A kick that comes before the first run finds no thread; then `requested` alone ends that run.
//! Core calls [`install`] before its seal, and [`enlist`] on each thread that is to run a vCPU: neither
//! `rt_sigaction` nor the questions for one's own numbers are in its filter. The one system call per
//! kick is `tgkill` with this process's own number, which a filter can demand.

use std::cell::Cell;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use crate::engine::Kick;

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs. No destructor and no lazy start, so that the
    /// handler may look at any time.
    static IMMEDIATE_EXIT: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
    /// This thread's number, once it was asked for.
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

/// This process's number as it sees it itself.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// The signal that kicks: the first one that the C library leaves free.
pub fn signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn on_kick(_signal: libc::c_int) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: non-null means that this thread is bound to a live vCPU: `unbind` runs on this very
        // thread before the run page is unmapped.
        unsafe { &*flag }.store(1, Ordering::Relaxed);
    }
}

/// Installs the handler for the whole process. Before the first vCPU is made, and before the seal.
pub fn install() -> io::Result<()> {
    // SAFETY: a system call without arguments.
    PROCESS.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    // SAFETY: all-zero is a valid `sigaction`: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_kick as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler only stores to an atomic, which a signal handler may do.
    match unsafe { libc::sigaction(signal(), &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks for the calling thread's number, so that it need not be asked when it runs a vCPU.
pub fn enlist() {
    this_thread();
}

fn this_thread() -> i32 {
    if THREAD.get() == 0 {
        // SAFETY: a system call without arguments.
        THREAD.set(unsafe { libc::gettid() });
    }
    THREAD.get()
}

/// One vCPU's kick.
pub(super) struct KvmKick {
    /// The thread that ran the vCPU last; 0: none yet.
    thread: AtomicI32,
    requested: AtomicBool,
}

impl KvmKick {
    pub(super) fn new() -> Self {
        Self { thread: AtomicI32::new(0), requested: AtomicBool::new(false) }
    }

    /// Makes the calling thread the one that runs the vCPU whose flag this is.
    pub(super) fn bind(&self, flag: *const AtomicU8) {
        if IMMEDIATE_EXIT.get() == flag {
            return;
        }
        IMMEDIATE_EXIT.set(flag);
        self.thread.store(this_thread(), Ordering::SeqCst);
    }

    /// Whether the calling thread is the one that is bound to this flag; if so, it no longer is.
    pub(super) fn unbind(&self, flag: *const AtomicU8) -> bool {
        let bound_here = IMMEDIATE_EXIT.get() == flag;
        if bound_here {
            self.thread.store(0, Ordering::SeqCst);
            IMMEDIATE_EXIT.set(ptr::null());
        }
        bound_here || self.thread.load(Ordering::SeqCst) == 0
    }

    /// Whether a kick came since the last call.
    pub(super) fn take(&self) -> bool {
        self.requested.swap(false, Ordering::SeqCst)
    }
}

impl Kick for KvmKick {
    fn kick(&self) {
        self.requested.store(true, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            let process = PROCESS.load(Ordering::SeqCst);
            // SAFETY: a system call on numbers; the handler was installed by `install`.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
        }
    }
}
