//! The in-flight record of a split queue as a dead predecessor, or whoever had its table, left it.
//!
//! The first byte says how long the record is, the rest of the input is the record and then the
//! queue. Recovered requests lie in guest memory, and the process lives on.

use super::{Verdict, guest, recovery};
use crate::patter;

/// Plays a recovery.
pub fn run(bytes: &[u8]) -> Verdict {
    recovery::run(bytes, patter::SPLIT)
}

/// A request in flight that was never answered, one of two answered, and a fresh record.
pub fn samples() -> Vec<Vec<u8>> {
    let header = |used: u16, last: u16| {
        let halves = [1, recovery::SIZE, last, used].map(u16::to_le_bytes).concat();
        [&[0; 8][..], &halves].concat()
    };
    let entry = |inflight: u8, next: u16, counter: u64| {
        let mut entry = vec![inflight, 0, 0, 0, 0, 0];
        entry.extend(next.to_le_bytes());
        entry.extend(counter.to_le_bytes());
        entry
    };
    let image = guest::split_image(recovery::SIZE);
    let one = [header(0, 0), entry(1, 0, 5)].concat();
    let two = [header(0, 0), entry(1, 0, 1), entry(0, 0, 0), entry(0, 0, 0), entry(1, 0, 0)];
    let fresh = vec![0; 32];
    [one, two.concat(), fresh].map(|record| recovery::sample(&record, &image)).to_vec()
}
