//! Which handler executes an x87 instruction, FXSAVE or FXRSTOR.
//!
//! `form` gives the opcode and ModRM bytes of everything the host's FPU executes for us. It is a list, not a formula, so that
//! nothing runs on the host that is not meant to: what is not in it (FRSTPM, say) is #UD in the guest.

use iced_x86::{Code, Instruction, Register};

use super::environment::Format;
use super::handlers;
use super::whole::{self, Registers};
use crate::op::Handler;
use crate::select::{Draft, Ending};

/// Names the handler and fills `imm`; nothing if the instruction is none of these.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    use Code as C;
    Some(match draft.instruction.code() {
        C::Wait => handlers::fwait,
        C::Fninit => handlers::fninit,
        C::Fnclex => handlers::fnclex,
        // Nothing since the 287, and not even waiting.
        C::Fneni | C::Fndisi | C::Fnsetpm => handlers::nothing,
        C::Fldcw_m2byte => handlers::fldcw,
        C::Fnstcw_m2byte => handlers::fnstcw,
        C::Fnstsw_m2byte => handlers::fnstsw,
        C::Fnstsw_AX => handlers::fnstsw_ax,
        C::Fldenv_m14byte => whole::fldenv::<{ Format::SHORT }>,
        C::Fldenv_m28byte => whole::fldenv::<{ Format::LONG }>,
        C::Fnstenv_m14byte => whole::fnstenv::<{ Format::SHORT }>,
        C::Fnstenv_m28byte => whole::fnstenv::<{ Format::LONG }>,
        C::Frstor_m94byte => whole::frstor::<{ Format::SHORT }>,
        C::Frstor_m108byte => whole::frstor::<{ Format::LONG }>,
        C::Fnsave_m94byte => whole::fnsave::<{ Format::SHORT }>,
        C::Fnsave_m108byte => whole::fnsave::<{ Format::LONG }>,
        C::Fxsave_m512byte | C::Fxsave64_m512byte => fxsave(draft),
        C::Fxrstor_m512byte | C::Fxrstor64_m512byte => {
            draft.ending = Ending::Block;
            fxrstor(draft)
        }
        _ => return computing(draft),
    })
}

/// How much FXSAVE and FXRSTOR move: the mode says how many XMM registers, REX.W how wide the pointers are.
fn registers(draft: &Draft<'_>) -> Registers {
    let is_wide =
        matches!(draft.instruction.code(), Code::Fxsave64_m512byte | Code::Fxrstor64_m512byte);
    match (draft.mode.is_long(), is_wide) {
        (false, _) => Registers::Eight,
        (true, false) => Registers::Sixteen,
        (true, true) => Registers::SixteenWide,
    }
}

fn fxsave(draft: &Draft<'_>) -> Handler {
    match registers(draft) {
        Registers::Eight => whole::fxsave::<{ Registers::Eight as u8 }>,
        Registers::Sixteen => whole::fxsave::<{ Registers::Sixteen as u8 }>,
        Registers::SixteenWide => whole::fxsave::<{ Registers::SixteenWide as u8 }>,
    }
}

fn fxrstor(draft: &Draft<'_>) -> Handler {
    match registers(draft) {
        Registers::Eight => whole::fxrstor::<{ Registers::Eight as u8 }>,
        Registers::Sixteen => whole::fxrstor::<{ Registers::Sixteen as u8 }>,
        Registers::SixteenWide => whole::fxrstor::<{ Registers::SixteenWide as u8 }>,
    }
}

fn computing(draft: &mut Draft<'_>) -> Option<Handler> {
    let (opcode, modrm) = form(draft.instruction.code())?;
    if modrm >= 0xc0 {
        let modrm = modrm | stack_register(draft.instruction);
        draft.op.imm = u64::from(opcode) << 8 | u64::from(modrm);
        return Some(handlers::on_registers);
    }
    draft.op.imm = u64::from(opcode) << 8 | u64::from(modrm);
    let is_store =
        matches!((opcode, modrm), (0xd9 | 0xdd, 1..=3) | (0xdb, 1..=3 | 7) | (0xdf, 1..=3 | 6 | 7));
    Some(match (draft.size(0), is_store) {
        (2, false) => handlers::load::<2>,
        (4, false) => handlers::load::<4>,
        (8, false) => handlers::load::<8>,
        (_, false) => handlers::load::<10>,
        (2, true) => handlers::store::<2>,
        (4, true) => handlers::store::<4>,
        (8, true) => handlers::store::<8>,
        (_, true) => handlers::store::<10>,
    })
}

/// The number of the stack register that is not implied to be ST(0): the low bits of the ModRM byte.
fn stack_register(instruction: &Instruction) -> u8 {
    let number = |index| {
        let register: Register = instruction.op_register(index);
        if register.is_st() { register.number() as u8 } else { 0 }
    };
    (0..instruction.op_count()).map(number).max().unwrap_or(0)
}

/// The opcode, and the ModRM byte of a register form (of ST(0)) or the `reg` field of a memory form.
fn form(code: Code) -> Option<(u8, u8)> {
    on_memory(code).or_else(|| on_one(code)).or_else(|| on_two(code))
}

fn on_memory(code: Code) -> Option<(u8, u8)> {
    use Code::*;
    Some(match code {
        Fadd_m32fp => (0xd8, 0),
        Fmul_m32fp => (0xd8, 1),
        Fcom_m32fp => (0xd8, 2),
        Fcomp_m32fp => (0xd8, 3),
        Fsub_m32fp => (0xd8, 4),
        Fsubr_m32fp => (0xd8, 5),
        Fdiv_m32fp => (0xd8, 6),
        Fdivr_m32fp => (0xd8, 7),
        Fld_m32fp => (0xd9, 0),
        Fst_m32fp => (0xd9, 2),
        Fstp_m32fp => (0xd9, 3),
        Fiadd_m32int => (0xda, 0),
        Fimul_m32int => (0xda, 1),
        Ficom_m32int => (0xda, 2),
        Ficomp_m32int => (0xda, 3),
        Fisub_m32int => (0xda, 4),
        Fisubr_m32int => (0xda, 5),
        Fidiv_m32int => (0xda, 6),
        Fidivr_m32int => (0xda, 7),
        Fild_m32int => (0xdb, 0),
        Fisttp_m32int => (0xdb, 1),
        Fist_m32int => (0xdb, 2),
        Fistp_m32int => (0xdb, 3),
        Fld_m80fp => (0xdb, 5),
        Fstp_m80fp => (0xdb, 7),
        Fadd_m64fp => (0xdc, 0),
        Fmul_m64fp => (0xdc, 1),
        Fcom_m64fp => (0xdc, 2),
        Fcomp_m64fp => (0xdc, 3),
        Fsub_m64fp => (0xdc, 4),
        Fsubr_m64fp => (0xdc, 5),
        Fdiv_m64fp => (0xdc, 6),
        Fdivr_m64fp => (0xdc, 7),
        Fld_m64fp => (0xdd, 0),
        Fisttp_m64int => (0xdd, 1),
        Fst_m64fp => (0xdd, 2),
        Fstp_m64fp => (0xdd, 3),
        Fiadd_m16int => (0xde, 0),
        Fimul_m16int => (0xde, 1),
        Ficom_m16int => (0xde, 2),
        Ficomp_m16int => (0xde, 3),
        Fisub_m16int => (0xde, 4),
        Fisubr_m16int => (0xde, 5),
        Fidiv_m16int => (0xde, 6),
        Fidivr_m16int => (0xde, 7),
        Fild_m16int => (0xdf, 0),
        Fisttp_m16int => (0xdf, 1),
        Fist_m16int => (0xdf, 2),
        Fistp_m16int => (0xdf, 3),
        Fbld_m80bcd => (0xdf, 4),
        Fild_m64int => (0xdf, 5),
        Fbstp_m80bcd => (0xdf, 6),
        Fistp_m64int => (0xdf, 7),
        _ => return None,
    })
}

/// Forms that imply their registers.
fn on_one(code: Code) -> Option<(u8, u8)> {
    use Code::*;
    Some(match code {
        Fnop => (0xd9, 0xd0),
        Fchs => (0xd9, 0xe0),
        Fabs => (0xd9, 0xe1),
        Ftst => (0xd9, 0xe4),
        Fxam => (0xd9, 0xe5),
        Fld1 => (0xd9, 0xe8),
        Fldl2t => (0xd9, 0xe9),
        Fldl2e => (0xd9, 0xea),
        Fldpi => (0xd9, 0xeb),
        Fldlg2 => (0xd9, 0xec),
        Fldln2 => (0xd9, 0xed),
        Fldz => (0xd9, 0xee),
        F2xm1 => (0xd9, 0xf0),
        Fyl2x => (0xd9, 0xf1),
        Fptan => (0xd9, 0xf2),
        Fpatan => (0xd9, 0xf3),
        Fxtract => (0xd9, 0xf4),
        Fprem1 => (0xd9, 0xf5),
        Fdecstp => (0xd9, 0xf6),
        Fincstp => (0xd9, 0xf7),
        Fprem => (0xd9, 0xf8),
        Fyl2xp1 => (0xd9, 0xf9),
        Fsqrt => (0xd9, 0xfa),
        Fsincos => (0xd9, 0xfb),
        Frndint => (0xd9, 0xfc),
        Fscale => (0xd9, 0xfd),
        Fsin => (0xd9, 0xfe),
        Fcos => (0xd9, 0xff),
        Fucompp => (0xda, 0xe9),
        Fcompp => (0xde, 0xd9),
        _ => return None,
    })
}

/// Forms with a stack register.
fn on_two(code: Code) -> Option<(u8, u8)> {
    use Code::*;
    Some(match code {
        Fadd_st0_sti => (0xd8, 0xc0),
        Fmul_st0_sti => (0xd8, 0xc8),
        Fcom_st0_sti => (0xd8, 0xd0),
        Fcomp_st0_sti => (0xd8, 0xd8),
        Fsub_st0_sti => (0xd8, 0xe0),
        Fsubr_st0_sti => (0xd8, 0xe8),
        Fdiv_st0_sti => (0xd8, 0xf0),
        Fdivr_st0_sti => (0xd8, 0xf8),
        Fld_sti => (0xd9, 0xc0),
        Fxch_st0_sti => (0xd9, 0xc8),
        Fstpnce_sti => (0xd9, 0xd8),
        Fcmovb_st0_sti => (0xda, 0xc0),
        Fcmove_st0_sti => (0xda, 0xc8),
        Fcmovbe_st0_sti => (0xda, 0xd0),
        Fcmovu_st0_sti => (0xda, 0xd8),
        Fcmovnb_st0_sti => (0xdb, 0xc0),
        Fcmovne_st0_sti => (0xdb, 0xc8),
        Fcmovnbe_st0_sti => (0xdb, 0xd0),
        Fcmovnu_st0_sti => (0xdb, 0xd8),
        Fucomi_st0_sti => (0xdb, 0xe8),
        Fcomi_st0_sti => (0xdb, 0xf0),
        Fadd_sti_st0 => (0xdc, 0xc0),
        Fmul_sti_st0 => (0xdc, 0xc8),
        Fcom_st0_sti_DCD0 => (0xdc, 0xd0),
        Fcomp_st0_sti_DCD8 => (0xdc, 0xd8),
        Fsubr_sti_st0 => (0xdc, 0xe0),
        Fsub_sti_st0 => (0xdc, 0xe8),
        Fdivr_sti_st0 => (0xdc, 0xf0),
        Fdiv_sti_st0 => (0xdc, 0xf8),
        Ffree_sti => (0xdd, 0xc0),
        Fxch_st0_sti_DDC8 => (0xdd, 0xc8),
        Fst_sti => (0xdd, 0xd0),
        Fstp_sti => (0xdd, 0xd8),
        Fucom_st0_sti => (0xdd, 0xe0),
        Fucomp_st0_sti => (0xdd, 0xe8),
        Faddp_sti_st0 => (0xde, 0xc0),
        Fmulp_sti_st0 => (0xde, 0xc8),
        Fcomp_st0_sti_DED0 => (0xde, 0xd0),
        Fsubrp_sti_st0 => (0xde, 0xe0),
        Fsubp_sti_st0 => (0xde, 0xe8),
        Fdivrp_sti_st0 => (0xde, 0xf0),
        Fdivp_sti_st0 => (0xde, 0xf8),
        Ffreep_sti => (0xdf, 0xc0),
        Fxch_st0_sti_DFC8 => (0xdf, 0xc8),
        Fstp_sti_DFD0 => (0xdf, 0xd0),
        Fstp_sti_DFD8 => (0xdf, 0xd8),
        Fucomip_st0_sti => (0xdf, 0xe8),
        Fcomip_st0_sti => (0xdf, 0xf0),
        _ => return None,
    })
}
