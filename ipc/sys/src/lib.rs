//! Descriptors, mappings, sockets and processes: the crate that speaks to the kernel.
//!
//! Every other crate of the project calls Linux through here, so that the unsafe calls, their
//! invariants and their errors are read in one place. It knows no policy, no message and no VM.
//!
//! Absent on purpose: anything that opens a path a caller names. Only the supervisor may open, and it
//! does so in a file of its own; [`probe`] tries the root, to be refused.
#![allow(
    unsafe_code,
    reason = "system calls and shared mappings: this crate is where they are wrapped"
)]

pub mod accept;
pub mod aio;
pub mod birth;
pub mod block_device;
pub mod capability;
pub mod clock;
pub mod code_memory;
pub mod cpu;
pub mod entropy;
pub mod eventfd;
pub mod file;
pub mod file_lock;
pub mod heap;
pub mod identity;
pub mod inherited;
pub mod mapping;
pub mod memfd;
pub mod pidfd;
pub mod poller;
pub mod probe;
pub mod process;
pub mod readiness;
pub mod seccomp;
pub mod seccomp_of;
pub mod seqpacket;
pub mod spawn;
pub mod stat;
pub mod stream;
pub mod terminal;
pub mod text;
