//! Refcounts of 1 to 64 bits in the bytes of a refcount block.

use super::geometry::Geometry;

/// The count of number `index` in `bytes`. Counts of less than a byte begin at its lowest bit.
pub fn get(geometry: Geometry, bytes: &[u8], index: usize) -> u64 {
    let order = geometry.refcount_order;
    if order < 3 {
        let (byte, shift) = small(order, index);
        let byte = bytes.get(byte).copied().unwrap_or(0);
        return u64::from(byte >> shift) & geometry.most();
    }
    let width = 1usize << (order - 3);
    let bytes = bytes.get(index * width..(index + 1) * width).unwrap_or_default();
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Changes it.
pub fn set(geometry: Geometry, bytes: &mut [u8], index: usize, count: u64) {
    let order = geometry.refcount_order;
    if order < 3 {
        let (byte, shift) = small(order, index);
        if let Some(byte) = bytes.get_mut(byte) {
            let mask = (geometry.most() as u8) << shift;
            *byte = *byte & !mask | (count as u8) << shift & mask;
        }
        return;
    }
    let width = 1usize << (order - 3);
    if let Some(bytes) = bytes.get_mut(index * width..(index + 1) * width) {
        bytes.copy_from_slice(&count.to_be_bytes()[8 - width..]);
    }
}

fn small(order: u32, index: usize) -> (usize, u32) {
    let bits = index << order;
    (bits / 8, (bits % 8) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_come_back_and_leave_their_neighbours_alone() {
        for refcount_order in 0..=6 {
            let geometry = Geometry { cluster_bits: 9, refcount_order, extended: false };
            let mut bytes = [0; 512];
            for index in 0..geometry.counts() {
                let count = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) & geometry.most();
                set(geometry, &mut bytes, index as usize, count);
            }
            for index in 0..geometry.counts() {
                let count = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) & geometry.most();
                assert_eq!(
                    get(geometry, &bytes, index as usize),
                    count,
                    "{refcount_order} {index}"
                );
            }
        }
    }
}
