//! The in-flight record of a packed queue as a dead predecessor, or whoever had its table, left it.
//!
//! Inputs are as those of [`inflight_split`](super::inflight_split).

use super::{Verdict, guest, recovery};
use crate::patter;

/// Plays a recovery.
pub fn run(bytes: &[u8]) -> Verdict {
    recovery::run(bytes, patter::PACKED)
}

/// A request of two descriptors in flight, one that was being given back, and a fresh record.
pub fn samples() -> Vec<Vec<u8>> {
    let image = guest::packed_image(recovery::SIZE);
    let fresh = vec![0; 32];
    let records = [record(0, 2), record(2, 2), fresh];
    records.map(|record| recovery::sample(&record, &image)).to_vec()
}

/// A record whose first two entries are one request; the next used descriptor goes to `used`.
fn record(used: u16, free: u16) -> Vec<u8> {
    let mut record = vec![0; 8];
    record.extend([1, recovery::SIZE, free, free].map(u16::to_le_bytes).concat());
    record.extend([used, 0].map(u16::to_le_bytes).concat());
    record.extend([1, 1, 0, 0]);
    record.extend([0; 8]);
    let flags = [0x81, 0x82, 0, 0, 0, 0, 0, 0u16];
    for (entry, flags) in (0..recovery::SIZE).zip(flags) {
        let first = entry == 0;
        record.extend([u8::from(first), 0]);
        let (last, count) = if first { (1, 2) } else { (0, 0) };
        record.extend([entry + 1, last, count].map(u16::to_le_bytes).concat());
        record.extend(3u64.to_le_bytes());
        record.extend([5, flags].map(u16::to_le_bytes).concat());
        record.extend(16u32.to_le_bytes());
        record.extend(0x8000u64.to_le_bytes());
    }
    record
}
