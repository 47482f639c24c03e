//! The ACPI power management timer: 32 bits that count at 3.579545 MHz (ACPI 6.5, 4.8.3.3).

use std::time::Instant;

use crate::bus::BusDevice;

const HERTZ: u128 = 3_579_545;

/// The timer. It runs from its creation; a guest cannot write to it, and a reset does not stop it.
pub struct PmTimer {
    since: Instant,
}

impl PmTimer {
    /// A timer that starts now.
    pub fn new() -> Self {
        Self { since: Instant::now() }
    }
}

impl Default for PmTimer {
    fn default() -> Self {
        Self::new()
    }
}

/// Ticks in so many nanoseconds, wrapped to 32 bits.
fn ticks(nanoseconds: u128) -> u32 {
    (nanoseconds * HERTZ / 1_000_000_000) as u32
}

impl BusDevice for PmTimer {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let bytes = ticks(self.since.elapsed().as_nanos()).to_le_bytes();
        for (to, from) in data.iter_mut().zip(bytes.iter().skip(offset as usize)) {
            *to = *from;
        }
    }

    fn write(&self, _offset: u64, _data: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_as_many_ticks_as_the_standard_says() {
        assert_eq!(ticks(1_000_000_000), 3_579_545);
    }

    #[test]
    fn it_wraps_after_twenty_minutes_and_does_not_stop() {
        let wrap = (1u128 << 32) * 1_000_000_000 / HERTZ + 1;
        assert!(ticks(wrap) < 10);
        assert!(ticks(u128::from(u64::MAX)) > 0);
    }

    #[test]
    fn reads_past_its_end_stay_ones() {
        let mut data = [0xff; 8];
        PmTimer::new().read(3, &mut data);
        assert_eq!(data[1..], [0xff; 7]);
    }
}
