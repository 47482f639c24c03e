//! Which family executes which instruction: the decoder's only table.
//!
//! Each family is a module with `select(&mut Draft) -> Option<Handler>`, asked in the order of
//! [`FAMILIES`]. It looks at the decoded instruction, fills `dst`, `src` and `imm`, and names the handler.
//! What no family takes is executed as #UD in the guest, and counted.
//!
//! | family | takes |
//! | --- | --- |
//! | `transfer` | mov, movzx/movsx, lea, xchg, push/pop, pusha/popa, enter/leave, lahf/sahf, flags, nop |
//! | `flow` | near and far jmp, call, ret, jcc, loop, jcxz, int n, iret, syscall… |
//! | `system` | control, debug and model-specific registers, descriptor tables, in/out, hlt, cpuid… |
//! | `alu` | integer arithmetic and logic, shifts, bits, setcc, cmovcc, cmpxchg, xadd… |
//! | `string` | movs, cmps, scas, lods, stos, ins, outs, with and without rep |
//! | `vector` | MMX, SSE…SSE4.2, AES, PCLMUL |
//! | `x87` | x87, fxsave/fxrstor |

use iced_x86::{Instruction, OpKind, Register};

use crate::cpu::Mode;
use crate::op::{AddressSize, Handler, Op, Shape};
use crate::state::{Reg, SegmentName};

/// An instruction on its way to becoming an [`Op`]. The memory operand is filled in already.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What was decoded. RIP-relative addresses are relative to the block.
    pub instruction: &'a Instruction,
    /// The mode it was decoded in.
    pub mode: Mode,
    /// What it becomes.
    pub op: Op,
    /// Offset of the block's first byte in its page.
    pub page_offset: u64,
    /// Whether the block goes on behind it. Left alone by families whose instructions just do their work.
    pub ending: Ending,
}

/// What comes behind an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The next instruction.
    Open,
    /// Nothing: the handler ends the block.
    Block,
    /// A link, and nothing else.
    Linked,
    /// A link, and behind it the way on for when it is not taken.
    Forked,
}

/// A family's answer.
pub type Select = fn(&mut Draft<'_>) -> Option<Handler>;

/// All families.
pub const FAMILIES: &[Select] = &[
    crate::transfer::select,
    crate::flow::select,
    crate::system::select,
    crate::alu::select,
    crate::string::select,
    crate::vector::select,
    crate::x87::select,
];

impl Draft<'_> {
    /// Whether operand `index` is the memory operand.
    pub fn is_memory(&self, index: u32) -> bool {
        self.instruction.op_count() > index && self.instruction.op_kind(index) == OpKind::Memory
    }

    /// Whether operand `index` is a register.
    pub fn is_register(&self, index: u32) -> bool {
        self.instruction.op_count() > index && self.instruction.op_kind(index) == OpKind::Register
    }

    /// The register that operand `index` is, if it is a general register.
    pub fn register(&self, index: u32) -> Option<Reg> {
        self.is_register(index).then(|| general(self.instruction.op_register(index)))?
    }

    /// Bytes of operand `index`: of the register, or of the memory operand.
    pub fn size(&self, index: u32) -> usize {
        match self.instruction.op_kind(index) {
            OpKind::Register => self.instruction.op_register(index).size(),
            _ => self.instruction.memory_size().size(),
        }
    }

    /// The immediate operand `index`, sign-extended to 64 bits as the instruction says.
    pub fn immediate(&self, index: u32) -> Option<u64> {
        self.instruction.try_immediate(index).ok()
    }
}

/// A general register of any width, as an offset into the register file.
pub fn general(register: Register) -> Option<Reg> {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            Some(Reg::high_byte(register as u8 - Register::AH as u8))
        }
        _ if register.is_gpr() => Some(Reg::general(register.full_register().number() as u8)),
        _ => None,
    }
}

/// A segment register's number.
pub fn segment(register: Register) -> Option<SegmentName> {
    Some(match register {
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::DS => SegmentName::Ds,
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ => return None,
    })
}

/// The segment of the memory operand. In 64-bit mode the prefixes of the first four mean nothing, and what is left is whether
/// the address is of the stack (Intel SDM volume 1, 3.3.7.1 and 3.4.2.1).
fn memory_segment(instruction: &Instruction, mode: Mode) -> SegmentName {
    let named = segment(instruction.memory_segment()).unwrap_or(SegmentName::Ds);
    if !mode.is_long() || matches!(named, SegmentName::Fs | SegmentName::Gs) {
        return named;
    }
    let base = instruction.memory_base().full_register();
    if matches!(base, Register::RSP | Register::RBP) { SegmentName::Ss } else { SegmentName::Ds }
}

/// Fills the fields of the memory operand.
pub(crate) fn place_memory(op: &mut Op, instruction: &Instruction, mode: Mode) {
    let base = instruction.memory_base();
    let segment = memory_segment(instruction, mode) as u8;
    let relative = matches!(base, Register::RIP | Register::EIP);
    let size = match (base, instruction.memory_index()) {
        (Register::RIP, _) => AddressSize::Bits64,
        (Register::EIP, _) => AddressSize::Bits32,
        (Register::None, Register::None) => match instruction.memory_displ_size() {
            2 => AddressSize::Bits16,
            8 => AddressSize::Bits64,
            _ if mode.is_long() => AddressSize::Bits64,
            _ => AddressSize::Bits32,
        },
        (Register::None, index) | (index, _) => match index.size() {
            2 => AddressSize::Bits16,
            4 => AddressSize::Bits32,
            _ => AddressSize::Bits64,
        },
    };
    op.base = if relative { Reg::RIP } else { general(base).unwrap_or(Reg::ZERO) };
    op.index = general(instruction.memory_index()).unwrap_or(Reg::ZERO);
    let scale = instruction.memory_index_scale().trailing_zeros() as u8;
    op.shape = Shape::new(scale, segment, size);
    op.displacement = instruction.memory_displacement64();
}
