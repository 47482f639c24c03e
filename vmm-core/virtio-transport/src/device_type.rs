//! The types of devices: numbers, classes, features and configuration spaces.

use bulkhead_machine::pci::ClassCode;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_CONSOLE, VIRTIO_ID_RNG};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// VIRTIO_CONSOLE_F_SIZE (5.3.3), which the bindings lack.
const VIRTIO_CONSOLE_F_SIZE: u32 = 0;

/// Features of the transport and the rings that a device may have.
const RING: u64 = mask(&[VIRTIO_F_VERSION_1, VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX]);

const fn mask(bits: &[u32]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < bits.len() {
        mask |= 1 << bits[at];
        at += 1;
    }
    mask
}

/// A device-specific configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfigSpace {
    /// Bytes, at most 256; 0: the type has none.
    pub len: usize,
    /// A feature bit, and the offset of the 16-bit number of queues that is valid with it.
    pub queue_count: Option<(u8, usize)>,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceType {
    /// Virtio device number (section 5).
    pub id: u16,
    /// PCI class code.
    pub class: ClassCode,
    /// Features that may be offered to a guest; a backend's others are withheld.
    pub features: u64,
    /// Configuration space.
    pub config: ConfigSpace,
}

impl DeviceType {
    /// A disk (5.2). CONFIG_WCE is withheld since configuration cannot be written, GEOMETRY because it
    /// means nothing. PCI: mass storage, other.
    pub const BLK: Self = Self {
        id: VIRTIO_ID_BLOCK as u16,
        class: ClassCode { class: 0x01, subclass: 0x80, interface: 0 },
        features: RING
            | mask(&[
                VIRTIO_BLK_F_SIZE_MAX,
                VIRTIO_BLK_F_SEG_MAX,
                VIRTIO_BLK_F_RO,
                VIRTIO_BLK_F_BLK_SIZE,
            ])
            | mask(&[VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_MQ])
            | mask(&[VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES]),
        config: ConfigSpace { len: 60, queue_count: Some((VIRTIO_BLK_F_MQ as u8, 34)) },
    };

    /// A console with one port (5.3). PCI: communication, other.
    pub const CONSOLE: Self = Self {
        id: VIRTIO_ID_CONSOLE as u16,
        class: ClassCode { class: 0x07, subclass: 0x80, interface: 0 },
        features: RING | mask(&[VIRTIO_CONSOLE_F_SIZE]),
        config: ConfigSpace { len: 12, queue_count: None },
    };

    /// A source of entropy (5.4). PCI: unclassified.
    pub const RNG: Self = Self {
        id: VIRTIO_ID_RNG as u16,
        class: ClassCode { class: 0x00, subclass: 0xff, interface: 0 },
        features: RING,
        config: ConfigSpace { len: 0, queue_count: None },
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_features_are_those_of_the_standard() {
        assert_eq!((DeviceType::BLK.id, DeviceType::CONSOLE.id, DeviceType::RNG.id), (2, 3, 4));
        assert_eq!(DeviceType::RNG.features, 0x1_3000_0000);
        assert_eq!(DeviceType::BLK.features, 0x1_3000_7666);
        assert_eq!(DeviceType::CONSOLE.features, 0x1_3000_0001);
    }

    #[test]
    fn rings_of_other_shapes_are_never_offered() {
        for device in [DeviceType::BLK, DeviceType::CONSOLE, DeviceType::RNG] {
            assert_eq!(
                device.features & (0b111_1111_1110 << 32),
                0,
                "packed, in-order, ring reset…"
            );
        }
    }
}
