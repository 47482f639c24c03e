//! The border between the machine and whatever executes guest instructions.
//!
//! An engine is three traits: [`Hypervisor`] makes a [`Vm`], a `Vm` makes [`Vcpu`]s and carries the
//! interrupt and doorbell plumbing, a `Vcpu` runs until it has an [`Exit`] to report. `machine` and
//! `virtio-transport` know only the traits; `core` chooses the engine.
//!
//! Vector registers, descriptors and model-specific registers cross the border in the layouts of
//! `kvm-bindings`, for every engine, so that state saved under one resumes under another.
//!
//! Absent on purpose: devices, the boot protocol, threads. And `/dev/kvm` is never opened here: the
//! engine takes the descriptor that its process was given.
#![allow(
    unsafe_code,
    reason = "KVM's ioctls and the shared run page: this crate is where they are wrapped"
)]

pub mod debug;
pub mod engine;
pub mod error;
pub mod exit;
pub mod interrupt;
pub mod ioevent;
pub mod kvm;
#[cfg(feature = "recorder")]
pub mod recorder;
pub mod remote;
pub mod x86_64;

pub use debug::{DebugStop, GuestDebug, Watch};
pub use engine::{Hypervisor, Kick, Vcpu, Vm};
pub use error::EngineError;
pub use exit::Exit;
pub use interrupt::{Gsi, Msi};
pub use ioevent::{DataMatch, IoAddress, IoEvent};
