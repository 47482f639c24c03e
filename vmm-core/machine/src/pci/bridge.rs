//! The host bridge in slot 0: there because guests expect to find one. It has no BARs and does
//! nothing.

use std::sync::Mutex;

use super::config::{BarIndex, ClassCode, ConfigSpace, Identity};
use super::device::PciDevice;
use super::msix::MsixTable;

/// Red Hat's number for a generic PCIe host, the one virtual machines use.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: ClassCode { class: 0x06, subclass: 0x00, interface: 0x00 },
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// The bridge.
pub struct HostBridge(Mutex<ConfigSpace>);

impl HostBridge {
    /// A bridge.
    pub fn new() -> Self {
        Self(Mutex::new(ConfigSpace::new(IDENTITY)))
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciDevice for HostBridge {
    fn config(&self) -> &Mutex<ConfigSpace> {
        &self.0
    }

    fn msix(&self) -> Option<&MsixTable> {
        None
    }

    fn bar_read(&self, _bar: BarIndex, _offset: u64, _data: &mut [u8]) {}

    fn bar_write(&self, _bar: BarIndex, _offset: u64, _data: &[u8]) {}

    fn bar_moved(&self, _bar: BarIndex, _address: Option<u64>) {}

    fn reset(&self) {}
}
