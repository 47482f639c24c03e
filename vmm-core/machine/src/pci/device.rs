//! What a PCI function implements.

use std::sync::Mutex;

use super::config::{BarIndex, ConfigSpace};
use super::msix::MsixTable;
use crate::hold::hold;

/// A PCI function in a slot of the [`PciHost`](super::PciHost).
///
/// The host routes configuration and BAR accesses here, keeps the bus claims of decoded BARs in step
/// with the configuration space, and hands changes of the MSI-X control word to the table. Offsets
/// and widths are the guest's.
pub trait PciDevice: Send + Sync {
    /// The configuration space. The host locks it for the default accesses below and to see where
    /// the BARs are; the function must not hold it while it calls the host.
    fn config(&self) -> &Mutex<ConfigSpace>;

    /// The interrupt table, if the function has one.
    fn msix(&self) -> Option<&MsixTable>;

    /// A read of configuration space. To be overridden by a function with a capability that is more
    /// than memory (the virtio configuration access window).
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        hold(self.config()).read(offset, data);
    }

    /// A write to configuration space; see [`PciDevice::config_read`].
    fn config_write(&self, offset: u16, data: &[u8]) {
        hold(self.config()).write(offset, data);
    }

    /// A read within a decoded BAR. `data` holds ones when the call is made.
    fn bar_read(&self, bar: BarIndex, offset: u64, data: &mut [u8]);

    /// A write within a decoded BAR.
    fn bar_write(&self, bar: BarIndex, offset: u64, data: &[u8]);

    /// The guest moved a BAR, or switched its decoding off (`None`). Doorbells follow.
    fn bar_moved(&self, bar: BarIndex, address: Option<u64>);

    /// The machine is reset. Configuration space, BARs and MSI-X table have been put back already.
    fn reset(&self);
}
