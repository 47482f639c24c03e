//! A software x86-64 CPU: executes guest instructions where the host offers no virtualization.
//!
//! ```text
//!  guest RAM ──► block/ (decoded once: iced-x86) ──► Op, Op, Op … ──► handlers ──► Cpu (state/)
//!                   ▲ written code pages                 │ memory/: TLB ─ miss ─► page walk
//!                   └─────────────────────────────────────┘
//! ```
//!
//! Called by `core`'s machine through the engine traits of `bulkhead_hypervisor`.
//!
//! The complete and precise interpreter: every exception finds the registers exactly as the processor
//! would have left them. Guest and host are the same instruction set, so arithmetic, flags, x87 and SSE
//! are computed by the host's own instructions: the crate is for x86-64 hosts.
//!
//! Law: what the guest does never panics and never makes us allocate without bound. The whole of a
//! handler's effect on the guest comes after its last possible fault, so that a faulting instruction
//! can be started again.
//!
//! Absent on purpose: AVX, nested virtualization, system management mode, virtual-8086 mode, hardware
//! task switches.
#![allow(
    unsafe_code,
    reason = "guest RAM is reached by address, guest arithmetic is done by the host's instructions"
)]
#![cfg(target_arch = "x86_64")]

pub mod alu;
mod apic;
mod block;
mod calls;
pub mod cpu;
mod debugger;
pub mod engine;
mod event;
pub mod fault;
pub mod flow;
pub mod host_cpu;
pub mod memory;
pub mod op;
mod run;
pub mod select;
pub mod serve;
pub mod state;
pub mod string;
mod system;
mod tally;
mod trace;
pub mod transfer;
pub mod vector;
pub mod width;
pub mod x87;

pub use cpu::Cpu;
pub use engine::Soft;
pub use run::Turns;
