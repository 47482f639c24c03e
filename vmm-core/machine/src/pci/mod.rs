//! PCI: configuration space, base address registers, MSI-X, and the host that carries the functions.
//!
//! One segment, one bus, 32 slots of one function each. Interrupts are MSI-X only: no function has an
//! INTx pin, so there is no interrupt routing table.

pub mod config;
pub mod device;
pub mod host;
pub mod msix;

pub use config::{BarIndex, BarSpec, ClassCode, ConfigSpace, Identity};
pub use device::PciDevice;
pub use host::{PciHost, Slot};
pub use msix::{MsixTable, NO_VECTOR};
