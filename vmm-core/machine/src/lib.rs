//! The machine that the guest sees, apart from its virtio devices.
//!
//! A machine is two [buses](bus) with devices on them: IOAPIC, UART, RTC, keyboard controller (for its
//! reset line only), power management, and a PCIe host that carries everything else. Callers: `core`
//! assembles it and dispatches vCPU exits to its buses; `virtio-transport` implements
//! [`pci::PciDevice`] and uses [`pci::MsixTable`].
//!
//! The law of every file here: the guest is hostile. Any access of any width at any offset is
//! answered; a read that makes no sense yields ones, a write that makes none is ignored, and neither
//! allocates, blocks or panics.
//!
//! Absent on purpose: file descriptors and threads. Devices that need either are driven by `core`.
#![forbid(unsafe_code)]

pub mod bus;
pub mod complaint;
pub mod debug_exit;
mod hold;
pub mod ioapic;
pub mod irq;
pub mod layout;
pub mod pci;
pub mod pm_timer;
pub mod power;
pub mod request;
pub mod reset;
pub mod rtc;
pub mod uart;

pub use request::{Request, Requests};
