//! PCI: configuration space, base address registers, MSI-X, and the host that carries the functions.
//!
//! One segment, one bus, 32 slots of one function each. Interrupts are MSI-X only: no function has an
//! INTx pin, so there is no interrupt routing table.

pub mod bridge;
pub mod config;
pub mod device;
pub mod host;
pub mod msix;

pub use bridge::HostBridge;
pub use config::{BarIndex, BarSpec, ClassCode, ConfigSpace, Identity};
pub use device::PciDevice;
pub use host::{PciHost, PlugError, Slot};
pub use msix::{MsixPlacement, MsixTable, NO_VECTOR};
