//! Any width at any offset: how guest accesses meet registers.

/// Copies the part of `image` that begins at `offset`; bytes beyond its end are left as they are (ones).
pub(crate) fn read_image(image: &[u8], offset: u64, data: &mut [u8]) {
    let Ok(offset) = usize::try_from(offset) else { return };
    let there = image.get(offset..).unwrap_or(&[]);
    for (to, from) in data.iter_mut().zip(there) {
        *to = *from;
    }
}

/// What a write of 1, 2, 4 or 8 bytes says, as a number. Other widths say nothing.
pub(crate) fn number(data: &[u8]) -> Option<u64> {
    if !matches!(data.len(), 1 | 2 | 4 | 8) {
        return None;
    }
    let bytes = data.iter().rev();
    Some(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_beyond_the_end_leave_ones() {
        let mut data = [0xff; 4];
        read_image(&[1, 2, 3], 1, &mut data);
        assert_eq!(data, [2, 3, 0xff, 0xff]);
        read_image(&[1, 2, 3], u64::MAX, &mut data);
        read_image(&[1, 2, 3], 3, &mut data);
        assert_eq!(data, [2, 3, 0xff, 0xff]);
    }

    #[test]
    fn numbers_are_little_endian_and_of_the_usual_widths() {
        assert_eq!(number(&[0x34, 0x12]), Some(0x1234));
        assert_eq!(number(&[1, 0, 0]), None);
        assert_eq!(number(&[0xff; 8]), Some(u64::MAX));
        assert_eq!(number(&[]), None);
    }
}
