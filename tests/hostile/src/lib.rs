//! Everything that decodes, under everything that may be sent to it.
//!
//! A [`Decoder`](decoder::Decoder) is one function that takes bytes and gives them to a parser as its
//! real peer would: on a socket, in shared memory, as a file, as accesses to a bus. It asserts what
//! must hold whatever the bytes are. The function is used twice:
//!
//! - by the tests of this package, which [`attack`] it with thousands of inputs that are the same on
//!   every run (`BULKHEAD_ROUNDS` says how many thousands);
//! - by `tests/fuzz`, where libFuzzer looks for inputs that reach further (`make fuzz`).
//!
//! Law: the same bytes do the same, since a failure is repeated by its bytes. No clock, no threads,
//! nothing left over from the input before.
#![forbid(unsafe_code)]

pub mod attack;
pub mod decoder;
pub mod draw;
pub mod file;
pub mod footprint;
pub mod mutate;
pub mod patter;
pub mod puppet;
pub mod stage;
pub mod twins;
