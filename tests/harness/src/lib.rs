//! What tests and benchmarks drive the project with, from outside.
#![forbid(unsafe_code)]

pub mod block;
pub mod engine;
pub mod frontend;
pub mod kernel;
pub mod programs;
pub mod storage;
pub mod storage_daemon;
