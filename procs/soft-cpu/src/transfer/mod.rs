//! Instructions that move data without computing: mov, lea, the stack, flags, nothing.

mod flag;
mod moves;
mod stack;

use iced_x86::Mnemonic as M;

use crate::op::Handler;
use crate::select::Draft;

/// Names the handler of a data transfer.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        M::Mov | M::Movnti => moves::mov(draft),
        M::Movzx => moves::extend::<false>(draft),
        M::Movsx | M::Movsxd => moves::extend::<true>(draft),
        M::Lea => moves::lea(draft),
        M::Xchg => moves::exchange(draft),
        M::Xlatb => moves::translate(draft),
        M::Push => stack::push(draft),
        M::Pop => stack::pop(draft),
        M::Pusha | M::Pushad => stack::push_all(draft),
        M::Popa | M::Popad => stack::pop_all(draft),
        M::Pushf | M::Pushfd | M::Pushfq => stack::push_flags(draft),
        M::Popf | M::Popfd | M::Popfq => stack::pop_flags(draft),
        M::Enter => stack::enter(draft),
        M::Leave => stack::leave(draft),
        _ => flag::select(draft),
    }
}
