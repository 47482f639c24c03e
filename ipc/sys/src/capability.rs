//! Capabilities: there is only one thing to do with them, which is to lose them.

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two words per set.
const VERSION_3: u32 = 0x2008_0522;

/// No capability by being uid 0 (bit 0), none raised in the ambient set (6), none kept over a change
/// of uid (2 and 4 clear); all of it locked (1, 3, 5, 7). Bits of linux/securebits.h.
const SECURE_BITS: libc::c_ulong = 0b1110_1011;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the bounding and the ambient set and locks the secure bits, so that no exec gives
/// anything back. Needs CAP_SETPCAP.
pub fn empty_bounds() -> io::Result<()> {
    for capability in 0.. {
        // SAFETY: a plain system call on numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            // One past the last capability that this kernel has.
            if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                break;
            }
            return Err(error);
        }
    }
    set(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong)?;
    set(libc::PR_SET_SECUREBITS, SECURE_BITS)
}

fn set(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: a plain system call on numbers.
    match unsafe { libc::prctl(option, value, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Empties the effective, permitted and inheritable sets of the calling thread.
pub fn drop_all() -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let sets = [Sets { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 takes two words per set; both arguments outlive the call.
    match unsafe { libc::syscall(libc::SYS_capset, &header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
