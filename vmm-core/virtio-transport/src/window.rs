//! The configuration access window (4.1.4.9): BAR accesses by way of configuration space, for firmware
//! that maps no BAR.
//!
//! The capability holds a BAR, an offset and a length of 1, 2 or 4; an access to its data register is
//! then an access to the BAR.

/// The data register, counted from the beginning of the capability.
const DATA: u16 = 16;

/// An access that the window's registers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub offset: u64,
    pub len: usize,
}

impl Target {
    /// Reads the request out of the capability's 20 bytes; `None` if it is none.
    pub fn decode(capability: &[u8; 20], bar: u8) -> Option<Self> {
        let word =
            |at: usize| u32::from_le_bytes(std::array::from_fn(|index| capability[at + index]));
        let (offset, len) = (word(8), word(12));
        let is_possible =
            capability[4] == bar && matches!(len, 1 | 2 | 4) && offset.is_multiple_of(len);
        is_possible.then_some(Self { offset: offset.into(), len: len as usize })
    }
}

/// Which bytes of the data register an access of `len` bytes at `offset` covers; `None` if none.
pub(crate) fn covers(window: u8, offset: u16, len: usize) -> Option<std::ops::Range<usize>> {
    let data = usize::from(window) + usize::from(DATA);
    let (start, end) = (usize::from(offset), usize::from(offset).saturating_add(len));
    let covered = start.max(data)..end.min(data + 4);
    (covered.start < covered.end).then(|| covered.start - data..covered.end - data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(bar: u8, offset: u32, len: u32) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[4] = bar;
        bytes[8..12].copy_from_slice(&offset.to_le_bytes());
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    #[test]
    fn only_aligned_accesses_of_the_usual_widths_to_our_bar_are_asked_for() {
        assert_eq!(
            Target::decode(&capability(0, 0x14, 1), 0),
            Some(Target { offset: 0x14, len: 1 })
        );
        for (bar, offset, len) in [(1, 0, 4), (0, 2, 4), (0, 1, 2), (0, 0, 0), (0, 0, 3), (0, 0, 8)]
        {
            assert_eq!(Target::decode(&capability(bar, offset, len), 0), None);
        }
    }

    #[test]
    fn accesses_that_touch_the_data_register_are_found() {
        assert_eq!(covers(0x60, 0x70, 4), Some(0..4));
        assert_eq!(covers(0x60, 0x71, 1), Some(1..2));
        assert_eq!(covers(0x60, 0x6e, 4), Some(0..2));
        assert_eq!(covers(0x60, 0x6c, 4), None);
        assert_eq!(covers(0x60, 0x74, 8), None);
    }
}
