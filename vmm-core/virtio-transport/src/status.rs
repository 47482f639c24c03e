//! The device status (2.1), and what a write to it asks for.
//!
//! ```text
//!            ACKNOWLEDGE, DRIVER     FEATURES_OK      DRIVER_OK
//!    0 ──────────────────────► … ───────────────► … ──────────► live
//!    ▲                                                            │ 0 written
//!    └──── backend stopped ◄──────────── leaving ◄────────────────┘
//! ```
//!
//! A write of 0 before DRIVER_OK resets at once: nothing ever ran.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const DRIVER_OK: u8 = VIRTIO_CONFIG_S_DRIVER_OK as u8;
const NEEDS_RESET: u8 = VIRTIO_CONFIG_S_NEEDS_RESET as u8;

/// Bits that a driver may set.
const DRIVERS: u8 = (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED)
    as u8
    | FEATURES_OK
    | DRIVER_OK;

/// The status register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Status {
    bits: u8,
    /// A reset was asked for and the backend has not let go yet.
    leaving: bool,
}

/// What a write to the register asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing more.
    Nothing,
    /// The device was not live: reset it now.
    Reset,
    /// The device was live: its backend must stop first.
    Leave,
    /// The driver is ready: the device is live.
    Live,
}

impl Status {
    /// What the register reads.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The driver may choose features.
    pub fn is_choosing(self) -> bool {
        !self.leaving && self.bits & FEATURES_OK == 0
    }

    /// The driver may set up queues: features are agreed on, and nothing is frozen yet.
    pub fn is_arranging(self) -> bool {
        !self.leaving && self.bits & (FEATURES_OK | DRIVER_OK) == FEATURES_OK
    }

    /// The device is live: everything is frozen.
    pub fn is_live(self) -> bool {
        !self.leaving && self.bits & DRIVER_OK != 0
    }

    /// A reset is under way.
    pub fn is_leaving(self) -> bool {
        self.leaving
    }

    /// The driver's write. `acceptable`: the features it chose are.
    pub fn write(&mut self, value: u8, acceptable: bool) -> Step {
        if self.leaving {
            return Step::Nothing;
        }
        if value == 0 {
            return self.leave();
        }
        let was_live = self.is_live();
        // A driver must not clear bits (2.1.1); whoever tries changes nothing.
        let mut set = value & DRIVERS & !self.bits;
        if !acceptable {
            set &= !FEATURES_OK;
        }
        if (self.bits | set) & FEATURES_OK == 0 {
            set &= !DRIVER_OK;
        }
        self.bits |= set;
        if self.is_live() && !was_live { Step::Live } else { Step::Nothing }
    }

    /// A reset, by the driver or of the machine.
    pub fn leave(&mut self) -> Step {
        match (self.leaving, self.is_live()) {
            (true, _) => Step::Nothing,
            (false, true) => {
                self.leaving = true;
                Step::Leave
            }
            (false, false) => Step::Reset,
        }
    }

    /// The backend cannot go on. Whether the driver is to be told by an interrupt.
    pub fn need_reset(&mut self) -> bool {
        let news = self.is_live() && self.bits & NEEDS_RESET == 0;
        if news {
            self.bits |= NEEDS_RESET;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Status {
        let mut status = Status::default();
        assert_eq!(status.write(3, false), Step::Nothing);
        assert_eq!(status.write(11, true), Step::Nothing);
        assert_eq!(status.write(15, true), Step::Live);
        status
    }

    #[test]
    fn features_that_are_not_acceptable_leave_features_ok_clear() {
        let mut status = Status::default();
        status.write(3, false);
        status.write(11, false);
        assert_eq!(status.bits(), 3);
        assert!(status.is_choosing() && !status.is_arranging());
        status.write(15, false);
        assert_eq!(status.bits(), 3, "no DRIVER_OK without FEATURES_OK");
    }

    #[test]
    fn driver_ok_freezes_and_is_told_once() {
        let mut status = live();
        assert!(status.is_live() && !status.is_arranging() && !status.is_choosing());
        assert_eq!(status.write(15, true), Step::Nothing);
        assert_eq!(status.write(4, true), Step::Nothing);
        assert_eq!(status.bits(), 15, "bits cannot be cleared");
    }

    #[test]
    fn a_live_device_keeps_its_status_until_it_has_left() {
        let mut status = live();
        assert_eq!(status.write(0, true), Step::Leave);
        assert_eq!(status.bits(), 15);
        assert_eq!(status.write(0, true), Step::Nothing);
        assert_eq!(status.write(255, true), Step::Nothing);
        assert!(status.is_leaving() && !status.is_live());
    }

    #[test]
    fn a_device_that_never_ran_is_reset_at_once() {
        let mut status = Status::default();
        assert_eq!(status.write(0, false), Step::Reset);
        status.write(11, true);
        assert_eq!(status.write(0, true), Step::Reset);
    }

    #[test]
    fn a_driver_cannot_set_needs_reset_and_the_device_sets_it_once() {
        let mut status = live();
        status.write(255, true);
        assert_eq!(status.bits(), 0x8f);
        assert!(status.need_reset() && !status.need_reset());
        assert_eq!(status.bits(), 0xcf);
        assert!(!Status::default().need_reset(), "a device that does not run needs no reset");
    }
}
