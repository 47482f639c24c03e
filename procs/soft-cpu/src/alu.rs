//! What every integer instruction computes: values and flags, as pure functions generic over the operand's width.
//!
//! The handlers call these; so does whoever wants to know what an instruction means. Guest and host are the same kind of
//! CPU, so each function *is* the host's instruction on registers, wrapped in inline assembly: values and flags are exact by
//! construction, also those the manuals leave undefined. Only what can fault (division) or does not exist in 64-bit code
//! (the decimal adjustments) is written out.
//!
//! The pure functions know no operands and no faults (`None` says that division faults). `handlers` brings them together with
//! registers and memory, `locked` runs them on memory that others write too, and `select` names the handler of an instruction.

pub mod arithmetic;
pub mod bits;
mod conditions;
pub mod decimal;
mod handlers;
pub mod locked;
pub mod multiply;
mod select;
pub mod shift;

use crate::width::Width;

pub use arithmetic::Arithmetic;
pub use bits::Bits;
pub use handlers::fused::select as fuse;
pub use multiply::{Multiply, Truncated};
pub use select::select;
pub use shift::{DoubleShift, Shift};

/// An operand of 8, 16, 32 or 64 bits, with the instructions that exist at every width.
pub trait Word: Width + Arithmetic + Shift + Multiply {}
impl<W: Width + Arithmetic + Shift + Multiply> Word for W {}

/// An operand of 16, 32 or 64 bits, with the instructions that exist from 16 bits on.
pub trait Wide: Word + Bits + DoubleShift + Truncated {}
impl<W: Word + Bits + DoubleShift + Truncated> Wide for W {}
