//! A guest instruction taken apart, and put together again with other registers.
//!
//! The opcode and the immediate stay as they are; what changes is where the operands lie. [`Copy::of`]
//! knows which opcodes may be copied at all: those whose whole effect is on general registers, flags and
//! one memory operand, and that cannot fault but by that operand.
//!
//! Absent on purpose: VEX and EVEX, 32-bit addresses, and whatever the processor refuses in some state.

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register};

use super::emit::{A, B, Emitter, Host, Opcode, Place, Rm};
use super::layout::{self, Home};

/// What the instruction's `rm` operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// There is no ModRM byte: operands are implied, or in the opcode's low three bits.
    Implied,
    Embedded(u8),
    Register(u8),
    Memory,
}

/// A guest instruction in its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copy<'a> {
    prefixes: [u8; 3],
    prefix_count: usize,
    wide: bool,
    rex: bool,
    opcode: [u8; 3],
    opcode_len: usize,
    /// The register operand, or what extends the opcode.
    reg: u8,
    reg_is_register: bool,
    form: Form,
    immediate: &'a [u8],
    /// All of it, for who is copied as he is.
    bytes: &'a [u8],
    /// ah, bh, ch or dh is an operand: no REX prefix, so no other host registers.
    high: bool,
}

impl<'a> Copy<'a> {
    /// Takes it apart. `None`: it cannot be copied.
    pub(super) fn of(instruction: &Instruction, bytes: &'a [u8]) -> Option<Self> {
        if instruction.is_invalid() {
            return None;
        }
        let mut copy = Self::split(bytes)?;
        copy.high = (0..instruction.op_count()).any(|index| {
            instruction.op_kind(index) == OpKind::Register
                && matches!(
                    instruction.op_register(index),
                    Register::AH | Register::BH | Register::CH | Register::DH
                )
        });
        if copy.form == Form::Embedded(0) && copy.opcode[0] == 0x90 && !copy.rex {
            return None;
        }
        if !copy.is_copied(instruction) || copy.high && !copy.can_stay(instruction) {
            return None;
        }
        // F2 and F3 mean something in these only.
        let mnemonic = instruction.mnemonic();
        if !matches!(mnemonic, M::Popcnt | M::Tzcnt | M::Lzcnt | M::Crc32) {
            let mut kept = 0;
            for index in 0..copy.prefix_count {
                if !matches!(copy.prefixes[index], 0xf2 | 0xf3) {
                    copy.prefixes[kept] = copy.prefixes[index];
                    kept += 1;
                }
            }
            copy.prefix_count = kept;
        }
        Some(copy)
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (mut prefixes, mut prefix_count) = ([0; 3], 0);
        let (mut at, mut rex) = (0, 0);
        loop {
            let byte = *bytes.get(at)?;
            match byte {
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
                0x66 | 0xf0 | 0xf2 | 0xf3 => {
                    if !prefixes[..prefix_count].contains(&byte) {
                        *prefixes.get_mut(prefix_count)? = byte;
                        prefix_count += 1;
                    }
                }
                0x40..=0x4f => {
                    rex = byte;
                    at += 1;
                    break;
                }
                _ => break,
            }
            at += 1;
        }
        let mut opcode = [0; 3];
        let mut opcode_len = 0;
        loop {
            let byte = *bytes.get(at)?;
            at += 1;
            opcode[opcode_len] = byte;
            opcode_len += 1;
            let goes_on = opcode_len == 1 && byte == 0x0f
                || opcode_len == 2 && byte == 0x38 && opcode[0] == 0x0f;
            if !goes_on {
                break;
            }
        }
        let mut copy = Self {
            prefixes,
            prefix_count,
            wide: rex & 8 != 0,
            rex: rex != 0,
            opcode,
            opcode_len,
            reg: 0,
            reg_is_register: false,
            form: Form::Implied,
            immediate: &[],
            bytes,
            high: false,
        };
        match copy.operands()? {
            Operands::None => {}
            Operands::Embedded => {
                let last = opcode_len - 1;
                copy.form = Form::Embedded(opcode[last] & 7 | (rex & 1) << 3);
            }
            Operands::ModRm { reg_is_register } => {
                let byte = *bytes.get(at)?;
                at += 1;
                copy.reg = byte >> 3 & 7;
                copy.reg_is_register = reg_is_register;
                if reg_is_register {
                    copy.reg |= (rex & 4) << 1;
                }
                if byte >> 6 == 3 {
                    copy.form = Form::Register(byte & 7 | (rex & 1) << 3);
                } else {
                    copy.form = Form::Memory;
                    let mut base = byte & 7;
                    if base == 4 {
                        base = *bytes.get(at)? & 7;
                        at += 1;
                    }
                    at += match byte >> 6 {
                        0 if base == 5 => 4,
                        0 => 0,
                        1 => 1,
                        _ => 4,
                    };
                }
            }
        }
        copy.immediate = bytes.get(at..)?;
        Some(copy)
    }

    /// What follows the opcode; nothing if it is none of those that may be copied.
    fn operands(&self) -> Option<Operands> {
        let register = Operands::ModRm { reg_is_register: true };
        let extension = Operands::ModRm { reg_is_register: false };
        Some(match self.opcode[..self.opcode_len] {
            [op @ 0..=0x3f] => match op & 7 {
                0..=3 => register,
                4 | 5 => Operands::None,
                _ => return None,
            },
            [0x63 | 0x69 | 0x6b | 0x84..=0x8b] => register,
            [0x80 | 0x81 | 0x83 | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3] => extension,
            [0xf6 | 0xf7 | 0xfe | 0xff] => extension,
            [0x90..=0x97 | 0xb0..=0xbf] => Operands::Embedded,
            [0x98 | 0x99 | 0x9e | 0x9f | 0xa8 | 0xa9 | 0xf5 | 0xf8 | 0xf9] => Operands::None,
            [0x0f, 0x40..=0x4f] => register,
            [0x0f, 0x90..=0x9f | 0xba] => extension,
            [0x0f, 0xa3 | 0xab | 0xb3 | 0xbb | 0xa4 | 0xa5 | 0xac | 0xad | 0xaf] => register,
            [0x0f, 0xc3] => register,
            [0x0f, 0xb0 | 0xb1 | 0xb6..=0xb8 | 0xbc..=0xbf | 0xc0 | 0xc1] => register,
            [0x0f, 0xc8..=0xcf] => Operands::Embedded,
            [0x0f, 0x38, 0xf0 | 0xf1] => register,
            _ => return None,
        })
    }

    /// Of the opcodes that share bytes with others, those that are meant.
    fn is_copied(&self, instruction: &Instruction) -> bool {
        match instruction.mnemonic() {
            M::Div | M::Idiv | M::Push | M::Pop | M::Jmp | M::Call | M::Ud0 | M::Ud1 => false,
            // A bit number in a register reaches beyond the operand.
            M::Bt | M::Bts | M::Btr | M::Btc => {
                self.form != Form::Memory || instruction.op1_kind() != OpKind::Register
            }
            // With a count above 1, OF is what the host's form of the instruction makes it.
            M::Rcl | M::Rcr => instruction.op1_kind() == OpKind::Register,
            M::Xbegin | M::Xabort | M::Pause | M::Nop | M::Lea => false,
            _ => true,
        }
    }

    /// Whether all its register operands have the same numbers here, without a REX prefix.
    fn can_stay(&self, instruction: &Instruction) -> bool {
        self.form != Form::Memory
            && !self.rex
            && (0..instruction.op_count()).all(|index| {
                let register = instruction.op_register(index);
                instruction.op_kind(index) != OpKind::Register
                    || matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
                    || !matches!(register.full_register(), Register::RSP)
                        && register.full_register().number() < 8
            })
    }

    pub(super) fn has_memory(&self) -> bool {
        self.form == Form::Memory
    }

    /// Emits it; `memory` is the place of its memory operand and a register that is free there.
    pub(super) fn emit(&self, code: &mut Emitter, memory: Option<(Place, Host)>) {
        if self.high || self.form == Form::Implied {
            return self.emit_as_it_is(code);
        }
        let free = memory.map_or([A, B], |(_, free)| [free, free]);
        let mut lent = Lent { free, used: [None; 2] };
        let reg = if self.reg_is_register { lent.borrow(code, self.reg) } else { self.reg };
        let mut opcode = self.opcode;
        match self.form {
            Form::Embedded(number) => {
                let last = self.opcode_len - 1;
                let host = lent.borrow(code, number);
                opcode[last] &= 0xf8;
                self.emit_embedded(code, opcode, host);
            }
            Form::Register(number) => {
                let host = lent.borrow(code, number);
                code.encode(self.prefix(&opcode), reg, Rm::Register(host), self.immediate);
            }
            _ => {
                let place = memory.map_or(Place::at(A, 0), |(place, _)| place);
                code.encode(self.prefix(&opcode), reg, Rm::Memory(place), self.immediate);
            }
        }
        lent.give_back(code);
    }

    fn prefix<'o>(&'o self, opcode: &'o [u8; 3]) -> Opcode<'o> {
        Opcode {
            prefixes: &self.prefixes[..self.prefix_count],
            wide: self.wide,
            rex: self.rex,
            bytes: &opcode[..self.opcode_len],
        }
    }

    fn emit_embedded(&self, code: &mut Emitter, mut opcode: [u8; 3], host: Host) {
        opcode[self.opcode_len - 1] |= host & 7;
        code.raw(&self.prefixes[..self.prefix_count]);
        let rex = u8::from(self.wide) << 3 | host >> 3;
        if rex != 0 || self.rex {
            code.raw(&[0x40 | rex]);
        }
        code.raw(&opcode[..self.opcode_len]);
        code.raw(self.immediate);
    }

    fn emit_as_it_is(&self, code: &mut Emitter) {
        code.raw(self.bytes);
    }
}

enum Operands {
    None,
    Embedded,
    ModRm { reg_is_register: bool },
}

/// Host registers that stand in for guest registers in the file, for one instruction.
struct Lent {
    free: [Host; 2],
    used: [Option<(u8, Host)>; 2],
}

impl Lent {
    fn borrow(&mut self, code: &mut Emitter, number: u8) -> Host {
        let reg = match layout::home(number) {
            Home::Host(host) => return host,
            Home::File(reg) => reg,
        };
        for (used, free) in self.used.iter_mut().zip(self.free) {
            match used {
                Some((same, host)) if *same == number => return *host,
                Some(_) => {}
                None => {
                    *used = Some((number, free));
                    code.load(free, layout::file(reg));
                    return free;
                }
            }
        }
        self.free[0]
    }

    fn give_back(&self, code: &mut Emitter) {
        for (number, host) in self.used.iter().flatten() {
            if let Home::File(reg) = layout::home(*number) {
                code.store(layout::file(reg), *host);
            }
        }
    }
}
