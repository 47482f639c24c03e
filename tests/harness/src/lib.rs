//! What tests and benchmarks drive the project with, from outside.
#![forbid(unsafe_code)]

pub mod frontend;
pub mod storage_daemon;
