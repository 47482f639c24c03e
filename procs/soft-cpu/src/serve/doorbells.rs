//! Guest writes that ring an eventfd instead of leaving the process.

use std::sync::{PoisonError, RwLock};

use bulkhead_hypervisor::{DataMatch, IoAddress, IoEvent};
use bulkhead_sys::eventfd::Doorbell;

/// The table: written by the main thread, read by every vCPU at every access that is not RAM's.
#[derive(Debug, Default)]
pub struct Doorbells(RwLock<Vec<(u64, IoEvent, Doorbell)>>);

impl Doorbells {
    /// Adds a connection.
    pub fn connect(&self, connection: u64, event: IoEvent, bell: Doorbell) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.push((connection, event, bell));
    }

    /// Removes a connection, if it is one.
    pub fn disconnect(&self, connection: u64) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|(number, ..)| *number != connection);
    }

    /// Connections.
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rings whatever this write matches; `false` if nothing does.
    pub fn ring(&self, address: IoAddress, data: &[u8]) -> bool {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut rung = false;
        for (_, event, bell) in table.iter() {
            if event.address == address && matches(event.data, data) {
                bell.ring_if_quiet();
                rung = true;
            }
        }
        rung
    }
}

fn matches(wanted: DataMatch, data: &[u8]) -> bool {
    match wanted {
        DataMatch::Any => true,
        DataMatch::U8(value) => data == value.to_le_bytes(),
        DataMatch::U16(value) => data == value.to_le_bytes(),
        DataMatch::U32(value) => data == value.to_le_bytes(),
        DataMatch::U64(value) => data == value.to_le_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_rings_what_matches_in_place_width_and_value() {
        let table = Doorbells::default();
        let bells: Vec<_> = (0..3).map(|_| Doorbell::new().unwrap()).collect();
        let place = IoAddress::Mmio(0x1000);
        let events = [DataMatch::Any, DataMatch::U16(7), DataMatch::U32(7)];
        for ((number, bell), data) in (0..).zip(&bells).zip(events) {
            table.connect(number, IoEvent { address: place, data }, bell.try_clone().unwrap());
        }
        assert!(table.ring(place, &[7, 0]));
        assert_eq!([0, 1, 2].map(|bell: usize| bells[bell].clear()), [true, true, false]);
        assert!(!table.ring(IoAddress::Mmio(0x1001), &[7, 0]));
        assert!(!table.ring(IoAddress::Pio(0x1000), &[7, 0]));
        table.disconnect(0);
        assert!(!table.ring(place, &[8, 0]));
        assert_eq!(table.len(), 2);
    }
}
