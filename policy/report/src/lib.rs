//! What the policy grants, printed; what a running VM holds, compared with it.
//!
//! Two callers: `bulkhead policy` asks [`describe`] for a class's manifest in words, `bulkhead audit`
//! asks [`audit`] to hold a process's `/proc` against its manifest.
//!
//! Law: what this user cannot see is said to be not observable. It is never taken for granted, and it
//! is never an excuse for a deviation that can be seen elsewhere.
#![forbid(unsafe_code)]

pub mod audit;
pub mod describe;
