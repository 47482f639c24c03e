//! Feature negotiation: two windows of 32 bits onto two sets of 64 (4.1.4.3).

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

/// What is offered and what was acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Features {
    pub offered: u64,
    pub acknowledged: u64,
    pub offered_select: u32,
    pub acknowledged_select: u32,
}

impl Features {
    /// The selected half of what is offered; halves that do not exist are empty.
    pub fn offered_half(&self) -> u32 {
        half(self.offered, self.offered_select)
    }

    /// The selected half of what was acknowledged.
    pub fn acknowledged_half(&self) -> u32 {
        half(self.acknowledged, self.acknowledged_select)
    }

    /// The driver writes the selected half of what it acknowledges.
    pub fn acknowledge(&mut self, bits: u32) {
        let bits = u64::from(bits);
        match self.acknowledged_select {
            0 => self.acknowledged = self.acknowledged & !0xffff_ffff | bits,
            1 => self.acknowledged = self.acknowledged & 0xffff_ffff | bits << 32,
            // Bits beyond 63: none are offered, so acknowledging one must not be accepted.
            _ if bits != 0 => self.acknowledged = u64::MAX,
            _ => {}
        }
    }

    /// Whether FEATURES_OK may stay set: nothing but what was offered, and at least version 1.
    pub fn are_acceptable(&self) -> bool {
        self.acknowledged & !self.offered == 0 && self.acknowledged >> VIRTIO_F_VERSION_1 & 1 == 1
    }

    /// As after a reset: the offer stays.
    pub fn reset(&mut self) {
        *self = Self { offered: self.offered, ..Self::default() };
    }
}

fn half(bits: u64, select: u32) -> u32 {
    match select {
        0 => bits as u32,
        1 => (bits >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offered: u64, acknowledged: u64) -> Features {
        Features { offered, acknowledged, ..Features::default() }
    }

    #[test]
    fn halves_are_selected_and_others_are_empty() {
        let mut features = with(0x1_0000_0006, 0);
        assert_eq!(features.offered_half(), 6);
        features.offered_select = 1;
        assert_eq!(features.offered_half(), 1);
        features.offered_select = 2;
        assert_eq!(features.offered_half(), 0);
    }

    #[test]
    fn only_a_part_of_the_offer_with_version_1_is_acceptable() {
        assert!(with(0x1_0000_0006, 0x1_0000_0002).are_acceptable());
        assert!(!with(0x1_0000_0006, 0x1_0000_0008).are_acceptable());
        assert!(!with(0x1_0000_0006, 0x0000_0002).are_acceptable());
    }

    #[test]
    fn bits_beyond_63_are_remembered_as_unacceptable() {
        let mut features = with(0x1_0000_0006, 0x1_0000_0000);
        features.acknowledged_select = 2;
        features.acknowledge(0);
        assert!(features.are_acceptable());
        features.acknowledge(1);
        assert!(!features.are_acceptable());
    }

    #[test]
    fn a_reset_keeps_the_offer_only() {
        let mut features = with(6, 2);
        features.acknowledged_select = 1;
        features.reset();
        assert_eq!(
            (features.offered, features.acknowledged, features.acknowledged_select),
            (6, 0, 0)
        );
    }
}
