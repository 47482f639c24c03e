//! Where the structures lie in the function's one BAR, and the capabilities that say so (4.1.4).
//!
//! A page each, so that a guest's page table can tell them apart, and the notification page holds
//! nothing that would exit.

use bulkhead_machine::pci::{BarIndex, BarSpec, ConfigSpace, MsixPlacement};

use crate::configuration;

/// The one BAR.
pub(crate) const BAR: BarIndex = BarIndex::Zero;
const BAR_LEN: u64 = 0x8000;

/// Length of each part of the BAR.
pub(crate) const PAGE: u64 = 0x1000;

const COMMON: u32 = 0x0000;
const ISR: u32 = 0x1000;
const DEVICE: u32 = 0x2000;
const NOTIFY: u32 = 0x3000;
const TABLE: u32 = 0x4000;
const PENDING: u32 = 0x5000;

/// Bytes from one queue's notification register to the next one's.
pub(crate) const NOTIFY_MULTIPLIER: u32 = 4;

/// A vendor-specific capability (PCI 3.0, appendix H), which all of virtio's are.
const VENDOR: u8 = 0x09;
const TYPE_COMMON: u8 = 1;
const TYPE_NOTIFY: u8 = 2;
const TYPE_ISR: u8 = 3;
const TYPE_DEVICE: u8 = 4;
const TYPE_WINDOW: u8 = 5;

/// A part of the BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Common,
    Isr,
    Device,
    Notify,
    Table,
    Pending,
}

/// The part in which an access begins, and where in it.
pub(crate) fn part(offset: u64) -> Option<(Part, u64)> {
    let within = offset % PAGE;
    let part = match u32::try_from(offset - within).ok()? {
        COMMON => Part::Common,
        ISR => Part::Isr,
        DEVICE => Part::Device,
        NOTIFY => Part::Notify,
        TABLE => Part::Table,
        PENDING => Part::Pending,
        _ => return None,
    };
    Some((part, within))
}

/// Offset in the BAR of a queue's notification register.
pub(crate) fn notify_offset(queue: u16) -> u64 {
    u64::from(NOTIFY) + u64::from(queue) * u64::from(NOTIFY_MULTIPLIER)
}

/// Adds BAR and capabilities; returns where the configuration access window's capability begins.
pub(crate) fn add(
    config: &mut ConfigSpace,
    queues: u16,
    config_len: usize,
) -> Result<u8, bulkhead_machine::pci::config::ConfigError> {
    config.add_bar(BarSpec { index: BAR, size: BAR_LEN })?;
    config.add_capability(VENDOR, &body(TYPE_COMMON, COMMON, configuration::LEN as u32, &[]))?;
    let notify = u32::from(queues) * NOTIFY_MULTIPLIER;
    let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
    config.add_capability(VENDOR, &body(TYPE_NOTIFY, NOTIFY, notify, &multiplier))?;
    config.add_capability(VENDOR, &body(TYPE_ISR, ISR, 1, &[]))?;
    if config_len > 0 {
        config.add_capability(VENDOR, &body(TYPE_DEVICE, DEVICE, config_len as u32, &[]))?;
    }
    let place = MsixPlacement {
        vectors: queues + 1,
        bar: BAR,
        table_offset: TABLE,
        pending_offset: PENDING,
    };
    config.add_msix(place)?;
    let window = config.add_capability(VENDOR, &body(TYPE_WINDOW, 0, 0, &[0; 4]))?;
    config.allow(usize::from(window) + 4, &[0xff]);
    config.allow(usize::from(window) + 8, &[0xff; 12]);
    Ok(window)
}

/// A capability's body after number and link: length, type, BAR, id, padding, offset, length.
fn body(kind: u8, offset: u32, len: u32, more: &[u8]) -> Vec<u8> {
    let whole = (16 + more.len()) as u8;
    let mut body = vec![whole, kind, BAR.number(), 0, 0, 0];
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(more);
    body
}
