//! What a process does to itself on its way to the seal, and how it leaves.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal};

/// Makes the process not dumpable: no core file, no ptrace by its own uid. exec resets it, so every
/// helper calls this after its exec.
pub fn forbid_dumps() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Makes the process dumpable again: for the moment in which the launcher clones.
pub fn allow_dumps() -> io::Result<()> {
    Ok(prctl::set_dumpable(true)?)
}

/// Kills this process when the *thread* that made it exits: call it in a child whose parent thread
/// never ends.
pub fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// No new privileges by exec, for this process and all it starts.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Puts SIGSEGV and SIGBUS back to their default action. Rust's runtime installs handlers that need
/// system calls which a sealed process has not.
pub fn reset_fault_handlers() -> io::Result<()> {
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the default action replaces a handler; nothing of ours relies on the handler.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Ignores a signal for the whole process.
pub fn ignore_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: ignoring installs no handler code.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Leaves at once with `status`: no destructors, no atexit, one system call.
pub fn exit_group(status: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(status) }
}

/// Name of the calling thread as `ps` and `/proc` show it (15 bytes are kept).
pub fn name_thread(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = prctl::set_name(&name);
    }
}
