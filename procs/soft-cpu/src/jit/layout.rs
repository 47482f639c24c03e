//! Where compiled code finds the processor: everything by its distance from one register.
//!
//! While compiled code runs, the host's stack pointer points 128 bytes into the register file, so that
//! general registers, RIP, segment bases and the slots below are all one byte of displacement away. Guest
//! registers are in the host's registers of the same number, but for rsp, which is in [`STACK`], and r9 to
//! r11, the rarest, which stay in the file.
//!
//! Nothing may write to the stack while that is so: no call, no push, no signal handler of ours.

use std::mem::offset_of;

use super::emit::{Host, Place, STACK, STATE};
use crate::cpu::Cpu;
use crate::state::{Fx, Reg, Registers};

/// Distance of the stack pointer from the register file's beginning.
const BIAS: usize = 128;

/// Slots of the register file that only compiled code uses.
pub(super) mod slot {
    use crate::state::Reg;

    /// Instructions that may still be executed before the run loop has to look: 32 bits.
    pub(in crate::jit) const BUDGET: Reg = Reg::BUDGET;
    /// The TLB's bank in use.
    pub(in crate::jit) const TLB: Reg = Reg(25 * 8);
    /// The host's stack pointer.
    pub(in crate::jit) const HOST_STACK: Reg = Reg(26 * 8);
    /// Where indirect jumps went, in this mode.
    pub(in crate::jit) const JUMPS: Reg = Reg(27 * 8);
    /// `Blocks::global_epoch`.
    pub(in crate::jit) const GLOBAL_EPOCH: Reg = Reg(30 * 8);
    /// `Blocks::far_epoch`.
    pub(in crate::jit) const EPOCH: Reg = Reg(28 * 8);
    /// 1: the guest's vector registers and MXCSR are the host's now. 32 bits.
    pub(in crate::jit) const VECTORS: Reg = Reg(31 * 8);
    /// A register's value that has to wait for a moment.
    pub(in crate::jit) const SPARE: Reg = Reg(29 * 8);
}

/// What the stack pointer is to be for this processor.
pub(super) fn state_of(cpu: *mut Cpu) -> *mut u8 {
    cpu.cast::<u8>().wrapping_add(offset_of!(Cpu, regs) + BIAS)
}

/// The processor whose register file this is.
pub(super) fn cpu_of(state: *mut u8) -> *mut Cpu {
    state.wrapping_sub(offset_of!(Cpu, regs) + BIAS).cast()
}

/// A register of the file, in memory.
pub(super) fn file(reg: Reg) -> Place {
    Place::at(STATE, i32::from(reg.0) - BIAS as i32)
}

/// What lies so many bytes behind the beginning of the processor.
pub(super) fn at(offset: usize) -> Place {
    let distance = offset as i64 - offset_of!(Cpu, regs) as i64;
    Place::at(STATE, distance as i32 - BIAS as i32)
}

/// The arithmetic flags, in memory.
pub(super) fn flags() -> Place {
    at(offset_of!(Cpu, flags))
}

/// The slot of an XMM register in the FXSAVE image.
pub(super) fn xmm(number: u8) -> Place {
    at(offset_of!(Cpu, fx) + offset_of!(Fx, xmm) + 16 * usize::from(number))
}

/// MXCSR, in the same image.
pub(super) fn mxcsr() -> Place {
    let word = offset_of!(Cpu, fx) + offset_of!(Fx, mxcsr);
    let distance = word as i64 - offset_of!(Cpu, regs) as i64;
    Place::at(STATE, distance as i32 - BIAS as i32)
}

/// The slot of a guest register that is in the host's `register`: nobody looks at it while compiled code runs.
pub(super) fn shelf(register: Host) -> Place {
    file(Reg::general(if register == STACK { 4 } else { register }))
}

/// Where a guest register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Host(Host),
    File(Reg),
}

/// The home of general register `number`.
pub(super) fn home(number: u8) -> Home {
    match number {
        4 => Home::Host(STACK),
        9..=11 => Home::File(Reg::general(number)),
        _ => Home::Host(number),
    }
}

/// Guest registers that live in the host's, and which.
pub(super) fn at_home() -> impl Iterator<Item = (Reg, Host)> {
    (0..16).filter_map(|number| match home(number) {
        Home::Host(host) => Some((Reg::general(number), host)),
        Home::File(_) => None,
    })
}

const _: () = assert!(size_of::<Registers>() >= 32 * 8);
