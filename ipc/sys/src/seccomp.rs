//! Installation of seccomp filters. What a filter says is `policy/seccomp`'s matter.

use std::io;

/// One instruction of a classic BPF program, as `struct sock_filter` of linux/filter.h has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the test holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Which threads a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// All of the process, now and later.
    All,
    /// The calling one, and those that it makes.
    Calling,
}

/// Stacks `filter` upon those that are in force. It can never be taken back.
///
/// Needs `no_new_privs`. With [`Threads::All`] a thread whose filters have gone another way than the
/// caller's is an error, and nothing is installed.
pub fn install(filter: &[Instruction], threads: Threads) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        // The kernel only reads; `Instruction` has the layout of `sock_filter`.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let flags = match threads {
        Threads::All => libc::SECCOMP_FILTER_FLAG_TSYNC,
        Threads::Calling => 0,
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `program` and its instructions outlive the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &program) } {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has filters of its own"))),
    }
}
