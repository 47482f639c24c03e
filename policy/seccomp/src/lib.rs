//! Seccomp filters compiled from the profiles at build time, and their installation.
//!
//! Called by `runtime` as the last step of a start, by the launcher and the supervisor for
//! themselves, and by `bulkhead policy` and `bulkhead audit`, which show a program and compare it
//! with what the kernel holds.
//!
//! Law: what no rule lets through kills the process (`SECCOMP_RET_KILL_PROCESS`): a trap could be
//! caught, and compromised code would go on probing. Foreign architectures are killed by the first
//! instructions; x32 calls carry a bit that equals no number, and so meet the default.
#![forbid(unsafe_code)]

use std::io;

use bulkhead_sys::seccomp::install;
pub use bulkhead_sys::seccomp::{Instruction, Threads};

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;

/// A system call that a program lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedCall {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// Only with certain arguments.
    pub filtered: bool,
}

/// The filters of one profile.
#[derive(Debug)]
pub struct Program {
    /// The profile: a class, or a class's kind of thread.
    pub profile: &'static str,
    /// The profile whose processes start this one's: its filters are inherited, and in force as well.
    pub under: Option<&'static str>,
    /// How many calls are the process's own need. Only where it has children are there more in
    /// `calls`.
    pub own: usize,
    /// Calls that are let through.
    pub calls: &'static [AllowedCall],
    /// The filter that kills for all others.
    pub kill: &'static [Instruction],
    /// The filter that answers some calls with an error.
    pub errno: Option<&'static [Instruction]>,
}

impl Program {
    /// Puts both filters in force. The one that answers goes first: the one that kills may not let
    /// the `seccomp` call through any more.
    pub fn install(&self, threads: Threads) -> io::Result<()> {
        self.filters().try_for_each(|filter| install(filter, threads))
    }

    /// Every filter, in the order in which they are installed.
    pub fn filters(&self) -> impl Iterator<Item = &'static [Instruction]> {
        self.errno.into_iter().chain([self.kill])
    }

    /// Every filter that a process of this profile is under, in the order in which they were
    /// installed: those of whoever started it, then its own. Their number is `Seccomp_filters` in
    /// `/proc/PID/status`.
    pub fn stack(&self) -> impl Iterator<Item = &'static [Instruction]> {
        let inherited = self.under.and_then(program);
        inherited.into_iter().flat_map(Self::filters).chain(self.filters())
    }

    /// A number that tells this build's filters from others'. It protects against mistakes, not
    /// against somebody who wants two programs to have the same; compare instructions for that.
    pub fn fingerprint(&self) -> u64 {
        let all = self.filters().flatten();
        all.flat_map(bytes).fold(FNV_START, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV))
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV: u64 = 0x0100_0000_01b3;

fn bytes(instruction: &Instruction) -> [u8; 8] {
    let [c0, c1] = instruction.code.to_ne_bytes();
    let [k0, k1, k2, k3] = instruction.k.to_ne_bytes();
    [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]
}

const fn at(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// The program of a profile.
pub fn program(profile: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.profile == profile)
}

/// Every program.
pub fn programs() -> &'static [Program] {
    PROGRAMS
}
