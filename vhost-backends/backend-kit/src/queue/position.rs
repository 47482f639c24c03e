//! A queue's position as vhost-user passes it (`SET_VRING_BASE`, `GET_VRING_BASE`).

use bulkhead_virtqueue::PackedPosition;

/// Split rings: the next available index.
pub(super) fn split_available(base: u32) -> u16 {
    base as u16
}

/// Packed rings: next available descriptor in bits 0–14 with its wrap counter in bit 15, next used
/// one in bits 16–30 with its wrap counter in bit 31.
pub(super) fn unpack(base: u32) -> (PackedPosition, PackedPosition) {
    (position(base as u16), position((base >> 16) as u16))
}

/// The reverse of [`unpack`].
pub(super) fn pack(available: PackedPosition, used: PackedPosition) -> u32 {
    u32::from(half(available)) | u32::from(half(used)) << 16
}

fn position(half: u16) -> PackedPosition {
    PackedPosition { index: half & 0x7fff, wrap: half >> 15 != 0 }
}

fn half(position: PackedPosition) -> u16 {
    position.index & 0x7fff | u16::from(position.wrap) << 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_base_survives_the_way() {
        let available = PackedPosition { index: 5, wrap: true };
        let used = PackedPosition { index: 0x7fff, wrap: false };
        assert_eq!(pack(available, used), 0x7fff_8005);
        assert_eq!(unpack(0x7fff_8005), (available, used));
        assert_eq!(unpack(0x8000_8000), (PackedPosition::START, PackedPosition::START));
    }
}
