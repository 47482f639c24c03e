//! The register file.
//!
//! A [`Reg`] is a byte offset into it, so that `ah` is as easy to reach as `rax`: one load at base plus
//! offset, no case. Beside the sixteen general registers the file holds what address arithmetic wants to
//! find in the same place: an always-zero register for an absent base or index, the address of the
//! running block for RIP-relative operands, and the six segment bases.
//!
//! Law: the file is longer than any `Reg` can reach, so that no offset needs a check.

use crate::width::Width;

/// Eight-byte slots: enough for eight bytes at the largest offset, 255.
const SLOTS: usize = 33;

/// A register, as a byte offset into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Reg(pub u8);

impl Reg {
    /// rax, eax, ax, al.
    pub const RAX: Self = Self::general(0);
    /// rcx, ecx, cx, cl.
    pub const RCX: Self = Self::general(1);
    /// rdx, edx, dx, dl.
    pub const RDX: Self = Self::general(2);
    /// rbx, ebx, bx, bl.
    pub const RBX: Self = Self::general(3);
    /// rsp, esp, sp.
    pub const RSP: Self = Self::general(4);
    /// rbp, ebp, bp.
    pub const RBP: Self = Self::general(5);
    /// rsi, esi, si.
    pub const RSI: Self = Self::general(6);
    /// rdi, edi, di.
    pub const RDI: Self = Self::general(7);
    /// r11, which `syscall` writes.
    pub const R11: Self = Self::general(11);
    /// ah.
    pub const AH: Self = Self(1);
    /// Reads as zero; never a destination.
    pub const ZERO: Self = Self(16 * 8);
    /// Instruction pointer of the running block's first instruction; between blocks, of the next
    /// instruction.
    pub const RIP: Self = Self(17 * 8);
    /// The segment bases as address arithmetic needs them: es, cs, ss, ds, fs, gs. In 64-bit mode the
    /// first four read as zero.
    pub const BASES: Self = Self(18 * 8);

    /// Instructions that may still be executed before the run loop has to look. Beyond what an instruction
    /// can name, like all slots behind it: compiled code keeps there what it needs of the processor.
    pub(crate) const BUDGET: Self = Self(24 * 8);

    /// General register `number` (0–15) in the processor's numbering.
    pub const fn general(number: u8) -> Self {
        Self((number & 15) * 8)
    }

    /// Bits 8–15 of general register 0–3: ah, ch, dh, bh.
    pub const fn high_byte(number: u8) -> Self {
        Self((number & 3) * 8 + 1)
    }

    /// The base of segment `number` (0–5).
    pub const fn base_of(number: u8) -> Self {
        Self(Self::BASES.0 + (number & 7) * 8)
    }
}

/// The file itself.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Registers {
    slots: [u64; SLOTS],
}

impl Default for Registers {
    fn default() -> Self {
        Self { slots: [0; SLOTS] }
    }
}

impl Registers {
    /// Reads a register of any width.
    #[inline(always)]
    pub fn get<W: Width>(&self, reg: Reg) -> W {
        let at = self.slots.as_ptr().cast::<u8>().wrapping_add(reg.0.into());
        // SAFETY: an offset of at most 255 and a width of at most 8 lie within the 264 bytes.
        unsafe { at.cast::<W>().read_unaligned() }
    }

    /// Writes a register: 32 bits clear the upper half, 8 and 16 bits leave the rest as it is.
    #[inline(always)]
    pub fn set<W: Width>(&mut self, reg: Reg, value: W) {
        let at = self.slots.as_mut_ptr().cast::<u8>().wrapping_add(reg.0.into());
        if W::BYTES == 4 {
            // SAFETY: an offset of at most 255 and eight bytes lie within the 264 bytes.
            unsafe { at.cast::<u64>().write_unaligned(value.zero_extend()) }
        } else {
            // SAFETY: as above, with a width of at most 8.
            unsafe { at.cast::<W>().write_unaligned(value) }
        }
    }
}
