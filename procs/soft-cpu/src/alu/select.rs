//! Which handler executes an integer instruction.

use iced_x86::Mnemonic;

use super::conditions;
use super::handlers::{bit, decimal, divide, exchange, extend, one, product, scan, shifts, two};
use crate::op::Handler;
use crate::select::Draft;
use crate::state::Reg;

/// Instances of a handler for 8, 16, 32 and 64 bits.
type Sized4 = [Handler; 4];
/// Instances of a handler for 16, 32 and 64 bits.
pub(super) type Sized3 = [Handler; 3];

macro_rules! sized4 {
    ($function:path $(, $operation:ty)?) => {{
        use $function as f;
        [f::<$($operation,)? u8> as Handler, f::<$($operation,)? u16>, f::<$($operation,)? u32>, f::<$($operation,)? u64>]
    }};
}
macro_rules! sized3 {
    ($function:path $(, $operation:ty)?) => {{
        use $function as f;
        [f::<$($operation,)? u16> as Handler, f::<$($operation,)? u32>, f::<$($operation,)? u64>]
    }};
}

fn of4(handlers: Sized4, bytes: usize) -> Option<Handler> {
    bytes.is_power_of_two().then(|| handlers.get(bytes.trailing_zeros() as usize).copied())?
}

pub(super) fn of3(handlers: Sized3, bytes: usize) -> Option<Handler> {
    bytes
        .is_power_of_two()
        .then(|| handlers.get((bytes.trailing_zeros() as usize).checked_sub(1)?).copied())?
}

/// Names the handler and fills `dst`, `src` and `imm`; nothing if the instruction is no integer instruction.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    use Mnemonic as M;
    match draft.instruction.mnemonic() {
        M::Add => two::<two::Add>(draft),
        M::Adc => two::<two::Adc>(draft),
        M::Sub => two::<two::Sub>(draft),
        M::Sbb => two::<two::Sbb>(draft),
        M::Cmp => two::<two::Cmp>(draft),
        M::And => two::<two::And>(draft),
        M::Or => two::<two::Or>(draft),
        M::Xor => two::<two::Xor>(draft),
        M::Test => two::<two::Test>(draft),
        M::Inc => one::<one::Inc>(draft),
        M::Dec => one::<one::Dec>(draft),
        M::Neg => one::<one::Neg>(draft),
        M::Not => one::<one::Not>(draft),
        M::Shl | M::Sal => shift::<shifts::Shl>(draft),
        M::Shr => shift::<shifts::Shr>(draft),
        M::Sar => shift::<shifts::Sar>(draft),
        M::Rol => turn::<shifts::Rol>(draft),
        M::Ror => turn::<shifts::Ror>(draft),
        M::Rcl => turn::<shifts::Rcl>(draft),
        M::Rcr => turn::<shifts::Rcr>(draft),
        M::Shld => double_turn::<shifts::Shld>(draft),
        M::Shrd => double_turn::<shifts::Shrd>(draft),
        M::Mul => product::<product::Mul>(draft),
        M::Imul if draft.instruction.op_count() == 1 => product::<product::Imul>(draft),
        M::Imul => truncated_product(draft),
        M::Div => quotient::<divide::Div>(draft),
        M::Idiv => quotient::<divide::Idiv>(draft),
        M::Bt => bit::<bit::Bt>(draft),
        M::Bts => bit::<bit::Bts>(draft),
        M::Btr => bit::<bit::Btr>(draft),
        M::Btc => bit::<bit::Btc>(draft),
        M::Bsf => scan::<scan::Bsf>(draft),
        M::Bsr => scan::<scan::Bsr>(draft),
        M::Tzcnt => scan::<scan::Tzcnt>(draft),
        M::Lzcnt => scan::<scan::Lzcnt>(draft),
        M::Popcnt => scan::<scan::Popcnt>(draft),
        M::Bswap => {
            draft.op.dst = draft.register(0)?;
            of3(sized3!(scan::bswap), draft.size(0))
        }
        M::Movbe => movbe(draft),
        M::Crc32 => crc32(draft),
        M::Cmpxchg => compare_exchange(draft),
        M::Xadd => exchange_add(draft),
        M::Xchg if draft.is_memory(0) => {
            draft.op.src = draft.register(1)?;
            of4(sized4!(exchange::swap_memory), draft.size(0))
        }
        M::Cmpxchg8b => Some(exchange::compare_eight),
        M::Cmpxchg16b => Some(exchange::compare_sixteen),
        M::Cbw => Some(extend::in_place::<u8, u16>),
        M::Cwde => Some(extend::in_place::<u16, u32>),
        M::Cdqe => Some(extend::in_place::<u32, u64>),
        M::Cwd => Some(extend::into_high::<u16>),
        M::Cdq => Some(extend::into_high::<u32>),
        M::Cqo => Some(extend::into_high::<u64>),
        M::Daa => Some(decimal::daa),
        M::Das => Some(decimal::das),
        M::Aaa => Some(decimal::aaa),
        M::Aas => Some(decimal::aas),
        M::Aam | M::Aad => {
            draft.op.imm = draft.immediate(0)?;
            Some(if draft.instruction.mnemonic() == M::Aam { decimal::aam } else { decimal::aad })
        }
        _ => conditions::select(draft),
    }
}

fn two<O: two::Two>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    let is_locked = draft.instruction.has_lock_prefix();
    let handlers = match (draft.register(0), draft.register(1), draft.immediate(1)) {
        (Some(dst), Some(src), _) => {
            (draft.op.dst, draft.op.src) = (dst, src);
            sized4!(two::register_register, O)
        }
        (Some(dst), _, Some(imm)) => {
            (draft.op.dst, draft.op.imm) = (dst, imm);
            sized4!(two::register_immediate, O)
        }
        (Some(dst), ..) => {
            draft.op.dst = dst;
            sized4!(two::register_memory, O)
        }
        (None, Some(src), _) => {
            draft.op.src = src;
            if is_locked {
                sized4!(two::locked_register, O)
            } else {
                sized4!(two::memory_register, O)
            }
        }
        (None, _, imm) => {
            draft.op.imm = imm?;
            if is_locked {
                sized4!(two::locked_immediate, O)
            } else {
                sized4!(two::memory_immediate, O)
            }
        }
    };
    of4(handlers, bytes)
}

fn one<O: one::One>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        return of4(sized4!(one::register, O), bytes);
    }
    of4(
        if draft.instruction.has_lock_prefix() {
            sized4!(one::locked, O)
        } else {
            sized4!(one::memory, O)
        },
        bytes,
    )
}

fn shift<O: shifts::Turn + shifts::Shifting>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    let mask = if bytes == 8 { 0x3f } else { 0x1f };
    match (draft.register(0), draft.immediate(1)) {
        (Some(dst), Some(count)) if count & mask != 0 => {
            (draft.op.dst, draft.op.imm) = (dst, count);
            of4(sized4!(shifts::register_by, O), bytes)
        }
        _ => turn::<O>(draft),
    }
}

fn turn<O: shifts::Turn>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    let by_cl = draft.is_register(1);
    draft.op.imm = if by_cl { 0 } else { draft.immediate(1)? };
    draft.op.src = if by_cl { Reg::RCX } else { Reg::ZERO };
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        let handlers = if by_cl {
            sized4!(shifts::register_cl, O)
        } else {
            sized4!(shifts::register_immediate, O)
        };
        return of4(handlers, bytes);
    }
    of4(sized4!(shifts::memory, O), bytes)
}

fn double_turn<O: shifts::DoubleTurn>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    draft.op.src = draft.register(1)?;
    draft.op.imm = if draft.is_register(2) { shifts::BY_CL } else { draft.immediate(2)? & 0xff };
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        return of3(sized3!(shifts::double_register, O), bytes);
    }
    of3(sized3!(shifts::double_memory, O), bytes)
}

fn product<O: product::Product>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    if let Some(src) = draft.register(0) {
        draft.op.src = src;
        return of4(sized4!(product::register, O), bytes);
    }
    of4(sized4!(product::memory, O), bytes)
}

fn truncated_product(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    draft.op.dst = draft.register(0)?;
    let has_immediate = draft.instruction.op_count() == 3;
    if has_immediate {
        draft.op.imm = draft.immediate(2)?;
    }
    let handlers = match (draft.register(1), has_immediate) {
        (Some(src), false) => {
            draft.op.src = src;
            sized3!(product::low_register)
        }
        (Some(src), true) => {
            draft.op.src = src;
            sized3!(product::low_register_immediate)
        }
        (None, false) => sized3!(product::low_memory),
        (None, true) => sized3!(product::low_memory_immediate),
    };
    of3(handlers, bytes)
}

fn quotient<O: divide::Quotient>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    if let Some(src) = draft.register(0) {
        draft.op.src = src;
        return of4(sized4!(divide::register, O), bytes);
    }
    of4(sized4!(divide::memory, O), bytes)
}

fn bit<O: bit::Change>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    let is_locked = draft.instruction.has_lock_prefix();
    let handlers = match (draft.register(0), draft.register(1)) {
        (Some(dst), Some(src)) => {
            (draft.op.dst, draft.op.src) = (dst, src);
            sized3!(bit::register_register, O)
        }
        (Some(dst), None) => {
            (draft.op.dst, draft.op.imm) = (dst, draft.immediate(1)?);
            sized3!(bit::register_immediate, O)
        }
        (None, Some(src)) => {
            draft.op.src = src;
            if is_locked {
                sized3!(bit::locked_register, O)
            } else {
                sized3!(bit::memory_register, O)
            }
        }
        (None, None) => {
            draft.op.imm = draft.immediate(1)?;
            if is_locked {
                sized3!(bit::locked_immediate, O)
            } else {
                sized3!(bit::memory_immediate, O)
            }
        }
    };
    of3(handlers, bytes)
}

fn scan<O: scan::Scan>(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    draft.op.dst = draft.register(0)?;
    if let Some(src) = draft.register(1) {
        draft.op.src = src;
        return of3(sized3!(scan::register, O), bytes);
    }
    of3(sized3!(scan::memory, O), bytes)
}

fn movbe(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        return of3(sized3!(scan::movbe_load), bytes);
    }
    draft.op.src = draft.register(1)?;
    of3(sized3!(scan::movbe_store), bytes)
}

fn crc32(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(1);
    draft.op.dst = draft.register(0)?;
    if let Some(src) = draft.register(1) {
        draft.op.src = src;
        return of4(sized4!(scan::crc32_register), bytes);
    }
    of4(sized4!(scan::crc32_memory), bytes)
}

fn compare_exchange(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    draft.op.src = draft.register(1)?;
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        return of4(sized4!(exchange::compare_register), bytes);
    }
    let is_locked = draft.instruction.has_lock_prefix();
    of4(
        if is_locked {
            sized4!(exchange::compare_locked)
        } else {
            sized4!(exchange::compare_memory)
        },
        bytes,
    )
}

fn exchange_add(draft: &mut Draft<'_>) -> Option<Handler> {
    let bytes = draft.size(0);
    draft.op.src = draft.register(1)?;
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        return of4(sized4!(exchange::add_register), bytes);
    }
    let is_locked = draft.instruction.has_lock_prefix();
    of4(
        if is_locked { sized4!(exchange::add_locked) } else { sized4!(exchange::add_memory) },
        bytes,
    )
}
