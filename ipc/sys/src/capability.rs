//! Capabilities: there is only one thing to do with them, which is to lose them.
//!
//! All of them, as a child in its jail does, or all but a few, as the launcher.

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
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A set of capabilities: bit `n` is capability number `n` of linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Change gids, and write the gid map of a child namespace.
    pub const SET_GID: Self = Self(1 << 6);
    /// Change uids, and write the uid map of a child namespace.
    pub const SET_UID: Self = Self(1 << 7);
    /// Map one's own root into a child namespace.
    pub const SET_FCAP: Self = Self(1 << 31);

    /// Those that the calling thread may use.
    pub fn held() -> io::Result<Self> {
        let header = Header { version: VERSION_3, pid: 0 };
        let mut sets = [Sets::default(); 2];
        // SAFETY: version 3 takes two words per set; both arguments outlive the call.
        match unsafe { libc::syscall(libc::SYS_capget, &header, sets.as_mut_ptr()) } {
            0 => Ok(Self(u64::from(sets[0].permitted) | u64::from(sets[1].permitted) << 32)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What is in any of `sets`.
    pub fn union(sets: &[Self]) -> Self {
        Self(sets.iter().fold(0, |all, set| all | set.0))
    }

    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Loses all others. Fails if one of these is not held.
    pub fn keep(self) -> io::Result<()> {
        let header = Header { version: VERSION_3, pid: 0 };
        let half = |bits: u32| Sets { effective: bits, permitted: bits, inheritable: 0 };
        let sets = [half(self.0 as u32), half((self.0 >> 32) as u32)];
        // SAFETY: version 3 takes two words per set; both arguments outlive the call.
        match unsafe { libc::syscall(libc::SYS_capset, &header, sets.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Empties the bounding and the ambient set and locks the secure bits, so that no exec gives
/// anything back. Needs CAP_SETPCAP.
pub fn empty_bounds() -> io::Result<()> {
    for capability in 0.. {
        // SAFETY: a plain system call on numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } != 0
        {
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
    Capabilities(0).keep()
}
