//! Tests of the command as a user meets it: what it refuses, how, and what it leaves behind.
//!
//! The tests are in `tests/`; they drive the built programs from outside.
#![forbid(unsafe_code)]
