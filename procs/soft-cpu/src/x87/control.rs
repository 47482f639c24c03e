//! The control and status words.
//!
//! FNINIT, FNCLEX, FLDCW, and what MMX instructions do to the x87 registers they share. None of it needs the host's FPU.

use crate::state::Fx;

/// The exception flags of the status word, and their masks in the control word.
const EXCEPTIONS: u16 = 0x3f;
/// Stack fault.
const STACK_FAULT: u16 = 1 << 6;
/// Error summary.
const SUMMARY: u16 = 1 << 7;
/// Busy: a copy of the summary, for the 8087's sake.
const BUSY: u16 = 1 << 15;
/// Top of stack.
const TOP: u16 = 7 << 11;

/// Whether an unmasked exception waits for the next waiting instruction.
#[inline(always)]
pub fn is_pending(image: &Fx) -> bool {
    image.status & !image.control & EXCEPTIONS != 0
}

/// The number of the physical register that is ST(0).
#[inline(always)]
pub fn top(image: &Fx) -> usize {
    usize::from(image.status >> 11 & 7)
}

/// After one of the words was written: the summary says whether an exception is pending.
pub fn summarize(image: &mut Fx) {
    let set = if is_pending(image) { SUMMARY | BUSY } else { 0 };
    image.status = image.status & !(SUMMARY | BUSY) | set;
}

/// FNINIT. The registers keep their contents, but all are empty.
pub fn initialize(image: &mut Fx) {
    turn_to(image, 0);
    image.control = 0x37f;
    image.status = 0;
    image.tags = 0;
    image.opcode = 0;
    image.instruction = 0;
    image.data = 0;
}

/// FNCLEX.
pub fn clear_exceptions(image: &mut Fx) {
    image.status &= !(EXCEPTIONS | STACK_FAULT | SUMMARY | BUSY);
}

/// FLDCW. Bit 6 reads as one, the upper reserved bits as zero.
pub fn load_control(image: &mut Fx, word: u16) {
    image.control = word & 0x1f7f | 0x40;
    summarize(image);
}

/// Makes physical register `top` the top of stack. The image is in stack order, so its registers turn with it.
pub fn turn_to(image: &mut Fx, new_top: usize) {
    let turn = (new_top + 8 - top(image)) & 7;
    image.st.rotate_left(turn);
    image.status = image.status & !TOP | (new_top as u16 & 7) << 11;
}

/// What every MMX instruction but EMMS does first: MM0 is ST(0), and no register is empty.
#[inline(always)]
pub fn enter_mmx(image: &mut Fx) {
    if image.status & TOP != 0 {
        turn_to(image, 0);
    }
    image.tags = 0xff;
}

/// The value of an MMX register, top of stack at any place.
#[inline(always)]
pub fn mm(image: &Fx, number: usize) -> u64 {
    image.st[(number + 8 - top(image)) & 7] as u64
}

/// Writes an MMX register; after `enter_mmx`. The exponent becomes all ones.
#[inline(always)]
pub fn set_mm(image: &mut Fx, number: usize, value: u64) {
    image.st[number & 7] = 0xffff << 64 | u128::from(value);
}
