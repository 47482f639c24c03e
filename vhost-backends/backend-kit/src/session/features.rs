//! What a device offers. It never changes while an instance lives: a successor offers the same.

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_bindings::bindings::virtio_config::{VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};

/// What every queue here can do.
const RING_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | PACKED | EVENT_IDX | INDIRECT;

pub(super) const PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;
pub(super) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(super) const INDIRECT: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// Queues begin disabled, and there are protocol features.
pub(super) const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Writes to guest memory are logged (VHOST_F_LOG_ALL): wanted for as long as somebody takes the marks.
pub(super) const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();

/// Protocol features offered.
pub(super) const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::LOG_SHMFD)
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// Longest configuration space in bytes, and longest answer about it.
pub(super) const LONGEST_CONFIG: u32 = 256;

/// What a device is to its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The virtio features of its kind; those of the rings are added here.
    pub features: u64,
    /// Its configuration space.
    pub config: Vec<u8>,
}

impl Identity {
    pub(super) fn offered(&self) -> u64 {
        self.features | RING_FEATURES | PROTOCOL_FEATURES | LOG_ALL
    }

    /// `size` bytes of the configuration space from `offset`; beyond its end there are zeroes. `None`:
    /// more than any configuration space has.
    pub(super) fn config(&self, offset: u32, size: u32) -> Option<Vec<u8>> {
        let end = offset.checked_add(size)?;
        if size == 0 || size > LONGEST_CONFIG || end > LONGEST_CONFIG {
            return None;
        }
        let bytes = self.config.iter().copied().chain(std::iter::repeat(0));
        Some(bytes.skip(offset as usize).take(size as usize).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_of_any_length_up_to_256_is_padded_with_zeroes() {
        let identity = Identity { features: 0, config: vec![1, 2, 3] };
        assert_eq!(identity.config(0, 5).unwrap(), [1, 2, 3, 0, 0]);
        assert_eq!(identity.config(2, 2).unwrap(), [3, 0]);
        assert_eq!(identity.config(0, 256).unwrap().len(), 256);
        assert_eq!(identity.config(255, 1).unwrap(), [0]);
        for (offset, size) in [(0, 0), (0, 257), (256, 1), (u32::MAX, 2)] {
            assert_eq!(identity.config(offset, size), None);
        }
    }
}
