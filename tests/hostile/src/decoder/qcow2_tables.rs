//! The L1 and an L2 table of a qcow2 image.

use super::Verdict;
use super::qcow2_part::{self, Part};

/// The input takes its place.
pub fn run(bytes: &[u8]) -> Verdict {
    qcow2_part::run(Part::Tables, bytes)
}

/// As it is in an image.
pub fn samples() -> Vec<Vec<u8>> {
    qcow2_part::samples(Part::Tables)
}
