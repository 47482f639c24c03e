//! How a request is spread over descriptors. The standard (virtio 1.2, 2.7.4) lets a driver cut it
//! anywhere, as long as what the device reads comes before what it writes.

/// Where the cuts are, and whether the descriptors lie in an indirect table.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The cuts.
    pub cut: Cut,
    /// In an indirect table.
    pub indirect: bool,
}

/// Where a request is cut.
#[derive(Debug, Clone)]
pub enum Cut {
    /// Header, data, status: what Linux does.
    Parts,
    /// One descriptor for all that the device reads, one for all that it writes: data follows the
    /// header, the status is the last byte after the data.
    Merged,
    /// Both sides in pieces of this many bytes.
    Every(u32),
    /// Both sides in pieces of these lengths; what is left is the last piece. A length of 0 is taken
    /// as it is, although no driver may do that.
    At {
        /// Of what the device reads.
        out: Vec<u32>,
        /// Of what the device writes.
        input: Vec<u32>,
    },
}

impl Layout {
    /// As Linux does without indirect descriptors.
    pub const PLAIN: Self = Self { cut: Cut::Parts, indirect: false };
    /// As Linux does with indirect descriptors.
    pub const INDIRECT: Self = Self { cut: Cut::Parts, indirect: true };
    /// Data joined to header and status.
    pub const MERGED: Self = Self { cut: Cut::Merged, indirect: false };

    /// Pieces of `len` bytes in an indirect table.
    pub fn every(len: u32) -> Self {
        Self { cut: Cut::Every(len.max(1)), indirect: true }
    }
}

/// One descriptor to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes from the header's first.
    pub offset: u32,
    pub len: u32,
    pub device_writes: bool,
}

/// Cuts a request of `header + out` bytes to read and `input + 1` bytes to write, which lie in this
/// order without a gap, and appends the pieces.
pub(super) fn cut(layout: &Layout, header: u32, out: u32, input: u32, pieces: &mut Vec<Piece>) {
    let mut side =
        |start: u32, whole: u32, device_writes: bool, lengths: &mut dyn Iterator<Item = u32>| {
            let mut done = 0;
            for len in lengths {
                let len = len.min(whole - done);
                pieces.push(Piece { offset: start + done, len, device_writes });
                done += len;
                if done == whole {
                    return;
                }
            }
            pieces.push(Piece { offset: start + done, len: whole - done, device_writes });
        };
    let (read, write) = (header + out, input + 1);
    match &layout.cut {
        Cut::Parts => {
            side(0, read, false, &mut std::iter::once(header));
            side(read, write, true, &mut std::iter::once(input).filter(|len| *len > 0));
        }
        Cut::Merged => {
            side(0, read, false, &mut std::iter::empty());
            side(read, write, true, &mut std::iter::empty());
        }
        Cut::Every(len) => {
            let len = (*len).max(1);
            side(0, read, false, &mut std::iter::repeat(len));
            side(read, write, true, &mut std::iter::repeat(len));
        }
        Cut::At { out, input } => {
            side(0, read, false, &mut out.iter().copied());
            side(read, write, true, &mut input.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(layout: &Layout, out: u32, input: u32) -> Vec<(u32, u32, bool)> {
        let mut pieces = Vec::new();
        cut(layout, 16, out, input, &mut pieces);
        pieces.iter().map(|piece| (piece.offset, piece.len, piece.device_writes)).collect()
    }

    #[test]
    fn linux_uses_three_descriptors_for_data_and_two_without() {
        assert_eq!(
            pieces(&Layout::PLAIN, 0, 512),
            [(0, 16, false), (16, 512, true), (528, 1, true)]
        );
        assert_eq!(
            pieces(&Layout::PLAIN, 512, 0),
            [(0, 16, false), (16, 512, false), (528, 1, true)]
        );
        assert_eq!(pieces(&Layout::PLAIN, 0, 0), [(0, 16, false), (16, 1, true)]);
    }

    #[test]
    fn merged_requests_have_one_descriptor_for_each_side() {
        assert_eq!(pieces(&Layout::MERGED, 512, 0), [(0, 528, false), (528, 1, true)]);
        assert_eq!(pieces(&Layout::MERGED, 0, 512), [(0, 16, false), (16, 513, true)]);
    }

    #[test]
    fn small_pieces_split_even_the_header_and_never_mix_directions() {
        let got = pieces(&Layout::every(10), 0, 12);
        let want = [(0, 10, false), (10, 6, false), (16, 10, true), (26, 3, true)];
        assert_eq!(got, want);
    }

    #[test]
    fn chosen_lengths_are_followed_by_the_rest() {
        let layout = Layout { cut: Cut::At { out: vec![7], input: vec![1, 2] }, indirect: false };
        let want = [(0, 7, false), (7, 9, false), (16, 1, true), (17, 2, true), (19, 2, true)];
        assert_eq!(pieces(&layout, 0, 4), want);
    }
}
