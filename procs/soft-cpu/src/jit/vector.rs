//! SSE instructions that compute with integers, move or shuffle: by the host's own, between slots of the FXSAVE image.
//!
//! Operands pass through xmm0 and xmm1, which hold nothing between two instructions. A 16-byte operand in memory that
//! has to be aligned is checked to be: the host's own refusal would be the process's end.
//!
//! Absent on purpose: whatever can raise a floating-point exception, sets flags, or uses MMX registers.

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register};

use super::access::{Access, Address};
use super::compile::Compiler;
use super::emit::{A, Emitter, Host, Opcode, Place, Rm, condition};
use super::layout::{self, Home};
use crate::op::Op;

/// An instruction of this kind, in its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector<'a> {
    prefix: Option<u8>,
    wide: bool,
    opcode: &'a [u8],
    /// The register operand, or what extends the opcode.
    reg: Operand,
    rm: Operand,
    /// The `rm` operand is the one that is written.
    writes_rm: bool,
    immediate: &'a [u8],
}

/// An operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Xmm(u8),
    General(u8),
    Extension(u8),
    Memory { address: Address, access: Access, aligned: bool },
}

/// Opcodes behind 0F whose `rm` operand is written.
const STORES: &[u8] = &[0x11, 0x13, 0x17, 0x29, 0x2b, 0x71, 0x72, 0x73, 0x7e, 0x7f, 0xd6, 0xe7];

impl<'a> Vector<'a> {
    /// Takes it apart. `None`: it is none of these.
    pub(super) fn of(instruction: &Instruction, bytes: &'a [u8], rip: u64) -> Option<Self> {
        if !is_offered(instruction) {
            return None;
        }
        let (mut prefix, mut rex, mut at) = (None, 0, 0);
        loop {
            match *bytes.get(at)? {
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
                byte @ (0x66 | 0xf2 | 0xf3) if prefix.is_none() => prefix = Some(byte),
                byte @ 0x40..=0x4f => {
                    rex = byte;
                    at += 1;
                    break;
                }
                _ => break,
            }
            at += 1;
        }
        let len = if *bytes.get(at + 1)? == 0x38 { 3 } else { 2 };
        let opcode = bytes.get(at..at + len)?;
        let number = *opcode.last()?;
        if opcode[0] != 0x0f || number == 0x3a {
            return None;
        }
        at += len;
        let modrm = *bytes.get(at)?;
        let is_register = modrm >> 6 == 3;
        let immediate = match has_immediate(instruction) {
            true => bytes.get(bytes.len() - 1..)?,
            false => &[],
        };
        // 7E behind F3 is a load.
        let writes_rm =
            len == 2 && STORES.contains(&number) && (number, prefix) != (0x7e, Some(0xf3));
        let general = |of: u32| {
            instruction.op_kind(of) == OpKind::Register && instruction.op_register(of).is_gpr()
        };
        let (first, second) = if writes_rm { (1, 0) } else { (0, 1) };
        let reg = modrm >> 3 & 7 | (rex & 4) << 1;
        let reg = match number {
            0x71..=0x73 => Operand::Extension(modrm >> 3 & 7),
            _ if general(first) => Operand::General(reg),
            _ => Operand::Xmm(reg),
        };
        let rm = match is_register {
            true if general(second) => Operand::General(modrm & 7 | (rex & 1) << 3),
            true => Operand::Xmm(modrm & 7 | (rex & 1) << 3),
            false => {
                let size = u32::try_from(instruction.memory_size().size()).ok()?;
                let unaligned =
                    matches!(instruction.mnemonic(), M::Movups | M::Movupd | M::Movdqu | M::Lddqu);
                let access = Access { size, write: writes_rm, locked: false };
                let address = Address::of(instruction, rip)?;
                Operand::Memory { address, access, aligned: size == 16 && !unaligned }
            }
        };
        Some(Self { prefix, wide: rex & 8 != 0, opcode, reg, rm, writes_rm, immediate })
    }

    pub(super) fn has_memory(&self) -> bool {
        matches!(self.rm, Operand::Memory { .. })
    }

    /// Emits it; `place` is its memory operand's, `free` a register that this does not need.
    fn emit(&self, code: &mut Emitter, place: Option<Place>, free: Host) {
        let reg = fetch(code, self.reg, 0, free);
        let rm = match (self.rm, place) {
            (_, Some(place)) => Rm::Memory(place),
            (operand, None) => Rm::Register(fetch(code, operand, 1, free)),
        };
        let prefix = self.prefix.as_slice();
        let opcode = Opcode { prefixes: prefix, wide: self.wide, rex: false, bytes: self.opcode };
        code.encode(opcode, reg, rm, self.immediate);
        match (self.writes_rm, rm) {
            (true, Rm::Register(host)) => put(code, self.rm, host),
            (true, _) => {}
            (false, _) => put(code, self.reg, reg),
        }
    }
}

/// The host register that holds an operand; what it has to be loaded into, if it is an XMM register's slot.
fn fetch(code: &mut Emitter, operand: Operand, number: u8, free: Host) -> u8 {
    match operand {
        Operand::Xmm(xmm) => {
            // movaps
            let slot = Rm::Memory(layout::xmm(xmm));
            code.encode(Opcode::narrow(&[0x0f, 0x28]), number, slot, &[]);
            number
        }
        Operand::General(general) => match layout::home(general) {
            Home::Host(host) => host,
            Home::File(reg) => {
                code.load(free, layout::file(reg));
                free
            }
        },
        Operand::Extension(extension) => extension,
        Operand::Memory { .. } => number,
    }
}

/// Puts back what was written.
fn put(code: &mut Emitter, operand: Operand, host: u8) {
    match operand {
        Operand::Xmm(xmm) => {
            let slot = Rm::Memory(layout::xmm(xmm));
            code.encode(Opcode::narrow(&[0x0f, 0x29]), host, slot, &[]);
        }
        Operand::General(general) => {
            if let Home::File(reg) = layout::home(general) {
                code.store(layout::file(reg), host);
            }
        }
        Operand::Extension(_) | Operand::Memory { .. } => {}
    }
}

impl Compiler<'_> {
    pub(super) fn vector(&mut self, vector: &Vector<'_>, op: *const Op) {
        let Operand::Memory { address, access, aligned } = vector.rm else {
            return vector.emit(self.code, None, A);
        };
        let mut refused = None;
        let missed = self.checked(address, access, |this, place, free| {
            if aligned {
                this.code.lea(free, place);
                // test free, 15
                let test = Opcode::wide(&[0xf7]);
                this.code.encode(test, 0, Rm::Register(free), &15i32.to_le_bytes());
                refused = Some(this.code.branch_ahead(condition::NOT_EQUAL));
            }
            vector.emit(this.code, Some(place), free);
        });
        match missed {
            Some(missed) => {
                self.rejoin(missed, op);
                if let Some(refused) = refused {
                    self.rejoin(refused, op);
                }
            }
            None => self.step(op),
        }
    }
}

fn has_immediate(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Immediate8)
}

/// Whether it is one of ours, with XMM, general and memory operands only.
fn is_offered(instruction: &Instruction) -> bool {
    let is_known = matches!(
        instruction.mnemonic(),
        M::Movntdq
            | M::Movntps
            | M::Movntpd
            | M::Movaps
            | M::Movapd
            | M::Movdqa
            | M::Movups
            | M::Movupd
            | M::Movdqu
            | M::Lddqu
            | M::Movss
            | M::Movsd
            | M::Movd
            | M::Movq
            | M::Movlps
            | M::Movlpd
            | M::Movhps
            | M::Movhpd
            | M::Movlhps
            | M::Movhlps
            | M::Pmovmskb
            | M::Movmskps
            | M::Movmskpd
            | M::Andps
            | M::Andpd
            | M::Andnps
            | M::Andnpd
            | M::Orps
            | M::Orpd
            | M::Xorps
            | M::Xorpd
            | M::Pand
            | M::Pandn
            | M::Por
            | M::Pxor
            | M::Paddb
            | M::Paddw
            | M::Paddd
            | M::Paddq
            | M::Psubb
            | M::Psubw
            | M::Psubd
            | M::Psubq
            | M::Paddsb
            | M::Paddsw
            | M::Paddusb
            | M::Paddusw
            | M::Psubsb
            | M::Psubsw
            | M::Psubusb
            | M::Psubusw
            | M::Pcmpeqb
            | M::Pcmpeqw
            | M::Pcmpeqd
            | M::Pcmpgtb
            | M::Pcmpgtw
            | M::Pcmpgtd
            | M::Pmullw
            | M::Pmulhw
            | M::Pmulhuw
            | M::Pmuludq
            | M::Pmaddwd
            | M::Pavgb
            | M::Pavgw
            | M::Psadbw
            | M::Pminub
            | M::Pmaxub
            | M::Pminsw
            | M::Pmaxsw
            | M::Psllw
            | M::Pslld
            | M::Psllq
            | M::Psrlw
            | M::Psrld
            | M::Psrlq
            | M::Psraw
            | M::Psrad
            | M::Pslldq
            | M::Psrldq
            | M::Pshufd
            | M::Pshuflw
            | M::Pshufhw
            | M::Shufps
            | M::Shufpd
            | M::Unpcklps
            | M::Unpcklpd
            | M::Unpckhps
            | M::Unpckhpd
            | M::Punpcklbw
            | M::Punpcklwd
            | M::Punpckldq
            | M::Punpcklqdq
            | M::Punpckhbw
            | M::Punpckhwd
            | M::Punpckhdq
            | M::Punpckhqdq
            | M::Packsswb
            | M::Packssdw
            | M::Packuswb
            | M::Pshufb
            | M::Pmulld
            | M::Pabsb
            | M::Pabsw
            | M::Pabsd
    );
    let has_xmm = (0..instruction.op_count()).any(|index| instruction.op_register(index).is_xmm());
    let is_plain = (0..instruction.op_count()).all(|index| match instruction.op_kind(index) {
        OpKind::Register => {
            let register = instruction.op_register(index);
            register.is_xmm() || register.is_gpr32() || register.is_gpr64()
        }
        OpKind::Memory | OpKind::Immediate8 => true,
        _ => false,
    });
    is_known && has_xmm && is_plain && instruction.memory_base() != Register::EIP
}
