//! DIV and IDIV of 32 and 64 bits, where it is plain beforehand that they cannot fault.
//!
//! A host's divide error would be the process's end. So the divisor is taken into a register, where
//! nobody changes it any more, and the cases that might overflow are left to the interpreter: for DIV, a
//! high half not less than the divisor, which no divisor of 0 passes; for IDIV, a high half that is not
//! the low one's sign, or a divisor of 0 or −1. Flags stay as they were, as in the interpreter.

use super::access::{Access, Address};
use super::compile::Compiler;
use super::emit::{A, B, Emitter, Hole, Host, Opcode, RAX, RDX, Rm, condition};
use crate::op::Op;

/// A division.
#[derive(Debug, Clone, Copy)]
pub(super) struct Division {
    pub(super) signed: bool,
    pub(super) wide: bool,
    pub(super) divisor: Divisor,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Divisor {
    Register(u8),
    Memory(Address),
}

impl Compiler<'_> {
    pub(super) fn divide(&mut self, division: Division, op: *const Op) {
        let wide = division.wide;
        let divisor = match division.divisor {
            Divisor::Register(number) => {
                self.flags_to_memory();
                self.in_host(number, B)
            }
            Divisor::Memory(address) => {
                let access = Access::of(if wide { 8 } else { 4 }, false);
                let missed = self.checked(address, access, |this, place, _| {
                    let opcode = Opcode { wide, ..Opcode::narrow(&[0x8b]) };
                    this.code.encode(opcode, B, Rm::Memory(place), &[]);
                });
                let Some(missed) = missed else { return self.refuse(op) };
                self.divide_by(division, B, missed.as_slice(), op);
                return;
            }
        };
        self.divide_by(division, divisor, &[], op);
    }

    fn divide_by(&mut self, division: Division, divisor: Host, missed: &[Hole], op: *const Op) {
        let wide = division.wide;
        let (refused, extension) = match division.signed {
            false => (vec![refuse_overflow(self.code, divisor, wide)], 6),
            true => (refuse_signed(self.code, divisor, wide).to_vec(), 7),
        };
        let opcode = Opcode { wide, ..Opcode::narrow(&[0xf7]) };
        self.code.encode(opcode, extension, Rm::Register(divisor), &[]);
        for hole in refused.iter().chain(missed) {
            self.rejoin(*hole, op);
        }
    }
}

fn refuse_overflow(code: &mut Emitter, divisor: Host, wide: bool) -> Hole {
    // cmp rdx, divisor
    let opcode = Opcode { wide, ..Opcode::narrow(&[0x3b]) };
    code.encode(opcode, RDX, Rm::Register(divisor), &[]);
    code.branch_ahead(condition::ABOVE_OR_EQUAL)
}

fn refuse_signed(code: &mut Emitter, divisor: Host, wide: bool) -> [Hole; 2] {
    let of = |bytes| Opcode { wide, ..Opcode::narrow(bytes) };
    // mov r10, rax; sar r10, 63; cmp r10, rdx
    code.encode(of(&[0x89]), RAX, Rm::Register(A), &[]);
    code.encode(of(&[0xc1]), 7, Rm::Register(A), &[if wide { 63 } else { 31 }]);
    code.encode(of(&[0x3b]), A, Rm::Register(RDX), &[]);
    let high = code.branch_ahead(condition::NOT_EQUAL);
    // mov r10, divisor; add r10, 1; cmp r10, 1
    code.encode(of(&[0x89]), divisor, Rm::Register(A), &[]);
    code.arithmetic(0, A, 1, wide);
    code.arithmetic(7, A, 1, wide);
    [high, code.branch_ahead(condition::BELOW_OR_EQUAL)]
}
