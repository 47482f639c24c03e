//! Which handler executes an MMX or SSE instruction. Whether the mode lets it run was settled before (`flow::Coprocessor`).

use iced_x86::Mnemonic;

use super::operand::uses_mmx;
use super::{
    compare, control, convert, float, immediate, integer, lane, mmx, mmx_convert, mmx_move, moves,
};
use crate::op::Handler;
use crate::select::Draft;

/// Names the handler and fills `dst`, `src` and `imm`; nothing if the instruction is none of these.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    if let Some(handler) = control::select(draft) {
        return Some(handler);
    }
    if uses_mmx(draft) || draft.instruction.mnemonic() == Mnemonic::Emms {
        return mmx::select(draft)
            .or_else(|| mmx_move::select(draft))
            .or_else(|| mmx_convert::select(draft));
    }
    moves::select(draft)
        .or_else(|| integer::select(draft))
        .or_else(|| float::select(draft))
        .or_else(|| lane::select(draft))
        .or_else(|| immediate::select(draft))
        .or_else(|| convert::select(draft))
        .or_else(|| compare::select(draft))
        .or_else(|| mmx_convert::select(draft))
}
