//! The virtio 1.x PCI transport: what a driver sees of a device whose other half is a backend process.
//!
//! Callers: vCPU threads, through [`bulkhead_machine::pci::PciDevice`]; and core's event loop, which
//! brings transport and backend together:
//!
//! ```text
//!     driver                 transport                        event loop, backend
//!       │                        │ ◄──────────── offer ───────────────┤  handshake done
//!       ├── features, queues ──► │                                    │
//!       ├── DRIVER_OK ─────────► │ ── Demand::Run(activation) ──────► │  start
//!       │         kicks ═════════╪═══════ eventfd, by the engine ═══► │
//!       │ ◄═══ interrupts ═══════╪═══════ eventfd, by the engine ════ │
//!       ├── status = 0 ────────► │ ── Demand::Stop ─────────────────► │  stop
//!       ├── status ? not 0 yet ► │ ◄──────────── stopped ─────────────┤  nothing is in flight any more
//!       ├── status ? 0 ────────► │                                    │
//! ```
//!
//! Law: the guest is hostile, so any access of any width anywhere is answered, and none allocates, waits
//! or panics. What a driver set up is frozen from DRIVER_OK until a reset; a reset is complete (the
//! status reads 0) only when the backend has let go of every request, so that no old one can write into
//! memory that the guest uses for something else.
//!
//! Absent on purpose: legacy registers, INTx (a guest without MSI-X gets no interrupts), packed rings,
//! RING_RESET, notification data, and writable device configuration: none of our devices has a field a
//! driver may write.
//!
//! Source: Virtual I/O Device (VIRTIO) Version 1.2, sections 2.1, 2.2, 3.1 and 4.1.
#![forbid(unsafe_code)]

mod access;
mod activation;
mod capabilities;
mod configuration;
mod device_type;
mod features;
mod function;
mod hold;
mod notify;
mod queue;
mod registers;
mod status;
mod window;

pub use activation::{Activation, Demand, QueueRings};
pub use device_type::{ConfigSpace, DeviceType};
pub use function::{Attention, TransportError, VirtioFunction, VirtioPlan};
pub use queue::QueueBells;
