//! The integer instructions on registers and memory.
//!
//! One file per shape of instruction. Each handler is generic over what it computes and over the operand's width, and named by
//! the forms of its operands; `select` puts the two together. They follow the law of `op`: nothing of the guest changes
//! before the last access that can fault has succeeded.

pub mod bit;
pub mod condition;
pub mod decimal;
pub mod divide;
pub mod exchange;
pub mod extend;
pub mod fused;
pub mod one;
pub mod product;
pub mod scan;
pub mod shifts;
pub mod two;
