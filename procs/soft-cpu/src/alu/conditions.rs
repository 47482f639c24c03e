//! Which handler executes a SETcc or CMOVcc: one for each condition.

use iced_x86::Mnemonic;

use super::handlers::condition;
use super::select::{Sized3, of3};
use crate::op::Handler;
use crate::select::Draft;

/// The handler of an instruction of this file.
pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    set(draft).or_else(|| conditional_move(draft))
}

/// Makes an array with one entry for each condition.
macro_rules! conditions {
    ($entry:ident) => {
        [
            $entry!(0),
            $entry!(1),
            $entry!(2),
            $entry!(3),
            $entry!(4),
            $entry!(5),
            $entry!(6),
            $entry!(7),
            $entry!(8),
            $entry!(9),
            $entry!(10),
            $entry!(11),
            $entry!(12),
            $entry!(13),
            $entry!(14),
            $entry!(15),
        ]
    };
}

/// SETcc in the order of their condition numbers.
const SETS: [Mnemonic; 16] = {
    use Mnemonic::*;
    [
        Seto, Setno, Setb, Setae, Sete, Setne, Setbe, Seta, Sets, Setns, Setp, Setnp, Setl, Setge,
        Setle, Setg,
    ]
};

/// CMOVcc in the order of their condition numbers.
const MOVES: [Mnemonic; 16] = {
    use Mnemonic::*;
    [
        Cmovo, Cmovno, Cmovb, Cmovae, Cmove, Cmovne, Cmovbe, Cmova, Cmovs, Cmovns, Cmovp, Cmovnp,
        Cmovl, Cmovge, Cmovle, Cmovg,
    ]
};

fn number_in(conditions: &[Mnemonic; 16], mnemonic: Mnemonic) -> Option<usize> {
    conditions.iter().position(|condition| *condition == mnemonic)
}

fn set(draft: &mut Draft<'_>) -> Option<Handler> {
    macro_rules! entry {
        ($cc:literal) => {
            [condition::set_register::<$cc> as Handler, condition::set_memory::<$cc>]
        };
    }
    const HANDLERS: [[Handler; 2]; 16] = conditions!(entry);
    let [register, memory] = *HANDLERS.get(number_in(&SETS, draft.instruction.mnemonic())?)?;
    let Some(dst) = draft.register(0) else { return Some(memory) };
    draft.op.dst = dst;
    Some(register)
}

fn conditional_move(draft: &mut Draft<'_>) -> Option<Handler> {
    macro_rules! entry {
        ($cc:literal) => {
            [
                [
                    condition::move_register::<u16, $cc> as Handler,
                    condition::move_register::<u32, $cc>,
                    condition::move_register::<u64, $cc>,
                ],
                [
                    condition::move_memory::<u16, $cc>,
                    condition::move_memory::<u32, $cc>,
                    condition::move_memory::<u64, $cc>,
                ],
            ]
        };
    }
    const HANDLERS: [[Sized3; 2]; 16] = conditions!(entry);
    let [register, memory] = *HANDLERS.get(number_in(&MOVES, draft.instruction.mnemonic())?)?;
    let bytes = draft.size(0);
    draft.op.dst = draft.register(0)?;
    let Some(src) = draft.register(1) else { return of3(memory, bytes) };
    draft.op.src = src;
    of3(register, bytes)
}
