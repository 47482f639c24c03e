//! Pre-decoded instructions, and how one handler hands over to the next.
//!
//! A block is a run of [`Op`]s in memory. A handler does its work and ends with `at.next(cpu)`: a call
//! in tail position, which the optimizer makes a jump. The last handler of a block changes RIP and
//! returns a [`Next`]: the block to go on with where it knows it, or [`Next::LOOKUP`].
//!
//! ```text
//! fn mov_register_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
//!     let value = attempt!(cpu, at, cpu.read::<W>(at));   // a fault: leave, RIP at this instruction
//!     cpu.regs.set::<W>(at.dst, value);
//!     at.next(cpu)
//! }
//! ```
//!
//! Law: a handler changes nothing that the guest can see before its last `attempt!`. It never keeps a
//! reference to a local of its own across `at.next`, or the jump becomes a call.

use std::ops::Deref;

use crate::cpu::Cpu;
use crate::state::Reg;

/// What executes an operation.
pub type Handler = fn(&mut Cpu, At) -> Next;

/// One pre-decoded instruction.
///
/// `base`, `index`, `shape` and `displacement` describe the memory operand if there is one; the other
/// fields mean what the handler wants. The decoder fills the memory operand, `len` and `start`; the
/// family's `select` chooses the handler and fills `dst`, `src` and `imm`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Op {
    /// What executes it.
    pub handler: Handler,
    /// An immediate operand, sign-extended, or whatever the handler keeps here.
    pub imm: u64,
    /// Displacement of the memory operand.
    pub displacement: u64,
    /// Base register of the memory operand; [`Reg::ZERO`] if absent.
    pub base: Reg,
    /// Index register of the memory operand; [`Reg::ZERO`] if absent.
    pub index: Reg,
    /// Scale, segment and address size of the memory operand.
    pub shape: Shape,
    /// First register operand.
    pub dst: Reg,
    /// Second register operand.
    pub src: Reg,
    /// Length of the instruction.
    pub len: u8,
    /// Distance of the instruction's first byte from the block's.
    pub start: u16,
}

/// How a memory operand's address is put together: bits 0–1 scale, 2–4 segment, 5–6 address size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Shape(u8);

/// Bits of an address before the segment base is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "their names say it")]
pub enum AddressSize {
    Bits64,
    Bits32,
    Bits16,
}

impl AddressSize {
    /// As much of an offset as an address of this size has.
    pub(crate) fn cut(self, offset: u64) -> u64 {
        match self {
            Self::Bits64 => offset,
            Self::Bits32 => offset & 0xffff_ffff,
            Self::Bits16 => offset & 0xffff,
        }
    }
}

impl Shape {
    /// No memory operand.
    pub const NONE: Self = Self(3 << 2);

    /// Puts one together. `scale` is the shift, 0–3; `segment` its number, 0–5.
    pub fn new(scale: u8, segment: u8, size: AddressSize) -> Self {
        Self(scale & 3 | (segment & 7) << 2 | (size as u8) << 5)
    }

    /// Left shift of the index.
    #[inline(always)]
    pub fn scale(self) -> u32 {
        u32::from(self.0 & 3)
    }

    /// Number of the segment.
    #[inline(always)]
    pub fn segment(self) -> u8 {
        self.0 >> 2 & 7
    }

    /// Address size.
    #[inline(always)]
    pub fn size(self) -> AddressSize {
        match self.0 >> 5 & 3 {
            0 => AddressSize::Bits64,
            1 => AddressSize::Bits32,
            _ => AddressSize::Bits16,
        }
    }

    /// Whether it is 64 bits wide, and so needs no limit check and no truncation.
    #[inline(always)]
    pub fn is_flat(self) -> bool {
        self.0 >> 5 == 0
    }

    /// Whether the segment is SS, whose faults are #SS.
    #[inline(always)]
    pub fn is_stack(self) -> bool {
        self.segment() == 2
    }
}

/// An operation in its place in a block.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct At(*const Op);

impl Deref for At {
    type Target = Op;

    #[inline(always)]
    fn deref(&self) -> &Op {
        // SAFETY: an `At` is made only from a block's first operation and by stepping to the next one
        // before the block's last; blocks are not freed while one is executing.
        unsafe { &*self.0 }
    }
}

impl At {
    /// The operation at `op`.
    ///
    /// # Safety
    /// `op` must be an operation of a live block, and all operations behind it up to one whose handler
    /// does not go on must follow it in memory.
    #[inline(always)]
    pub unsafe fn new(op: *const Op) -> Self {
        Self(op)
    }

    /// The operation itself.
    pub fn as_ptr(self) -> *const Op {
        self.0
    }

    /// The operation behind this one.
    #[inline(always)]
    pub fn following(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The operation behind this one and its link.
    #[inline(always)]
    pub(crate) fn behind_link(self) -> Self {
        Self(self.0.wrapping_add(2))
    }

    /// Goes on with the operation behind this one. Must be the last thing that a handler does.
    #[inline(always)]
    pub fn next(self, cpu: &mut Cpu) -> Next {
        let at = self.following();
        (at.handler)(cpu, at)
    }

    /// Executes this operation (and what follows it).
    #[inline(always)]
    pub fn enter(self, cpu: &mut Cpu) -> Next {
        (self.handler)(cpu, self)
    }

    /// Ends the block behind this instruction: for instructions that change what the next ones mean.
    #[inline]
    pub fn end(self, cpu: &mut Cpu) -> Next {
        let rip = cpu.rip_after(self);
        cpu.set_rip(rip);
        Next::LOOKUP
    }
}

/// Where to go on after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Next(pub(crate) *const Op);

impl Next {
    /// The run loop finds out: by RIP, or by what `Cpu::stop` says.
    pub const LOOKUP: Self = Self(std::ptr::null());
}

/// The value of an expression, or out of the handler with RIP at this instruction.
#[macro_export]
macro_rules! attempt {
    ($cpu:expr, $at:expr, $value:expr) => {
        match $value {
            Ok(value) => value,
            Err(raised) => return $cpu.leave($at, raised),
        }
    };
}
