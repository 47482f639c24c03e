//! A request's bytes, wherever in guest memory they are.
//!
//! Devices never see descriptors: a header may be cut at any byte, a status may share its descriptor
//! with data. They name bytes by their offset in the whole.

use bulkhead_memory::{AccessError, GuestMemory, GuestRange, GuestSlice, OutOfRange};

/// An access that a request's bytes do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScatterError {
    /// Beyond the request's last byte: the guest made the request too short.
    #[error("{len} bytes at offset {offset} of a request of {size}")]
    OutOfRequest {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Bytes there are.
        size: u64,
    },
    /// The memory is gone since the chain was taken: the frontend removed it.
    #[error(transparent)]
    NotMemory(#[from] OutOfRange),
    /// The memory may not be used so.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Pieces of guest memory that make one sequence of bytes. The pieces were checked when they were
/// added; using them checks again, since the frontend may have changed the memory table meanwhile.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scatter {
    ranges: Vec<GuestRange>,
    len: u64,
}

impl Scatter {
    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub fn ranges(&self) -> &[GuestRange] {
        &self.ranges
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
        self.len = 0;
    }

    /// Gives memory back that an unusually long request needed.
    pub(crate) fn shrink(&mut self, ranges: usize) {
        self.ranges.clear();
        self.ranges.shrink_to(ranges);
        self.len = 0;
    }

    /// Adds a checked piece. The caller bounds how many.
    pub(crate) fn push(&mut self, range: GuestRange) {
        if range.len > 0 {
            self.len = self.len.saturating_add(range.len);
            self.ranges.push(range);
        }
    }

    /// Calls `each` with the pieces of `len` bytes from `offset`, in order, and with how many of
    /// these bytes came before.
    #[inline]
    pub fn for_each<E: From<ScatterError>>(
        &self,
        memory: &GuestMemory,
        offset: u64,
        len: u64,
        mut each: impl FnMut(GuestSlice<'_>, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(ScatterError::OutOfRequest { offset, len, size: self.len }.into());
        }
        let (mut skip, mut done) = (offset, 0);
        for range in &self.ranges {
            if done == len {
                break;
            }
            if skip >= range.len {
                skip -= range.len;
                continue;
            }
            let take = (range.len - skip).min(len - done);
            // The range was checked as a whole, so the sum fits.
            let part = GuestRange::new(range.addr.wrapping_add(skip), take);
            skip = 0;
            each_piece(memory, part, |slice, before| each(slice, done + before))?;
            done += take;
        }
        Ok(())
    }

    /// Copies bytes from the guest, from `offset` on.
    pub fn copy_in(
        &self,
        memory: &GuestMemory,
        offset: u64,
        to: &mut [u8],
    ) -> Result<(), ScatterError> {
        let len = to.len() as u64;
        let mut rest = to;
        self.for_each(memory, offset, len, |slice, _| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(slice.len());
            rest = later;
            Ok(slice.copy_in(now)?)
        })
    }

    /// Copies bytes to the guest, from `offset` on.
    pub fn copy_out(
        &self,
        memory: &GuestMemory,
        offset: u64,
        from: &[u8],
    ) -> Result<(), ScatterError> {
        let mut rest = from;
        self.for_each(memory, offset, from.len() as u64, |slice, _| {
            let (now, later) = rest.split_at(slice.len());
            rest = later;
            Ok(slice.copy_out(now)?)
        })
    }
}

/// Nearly every range lies in one region; the rest is cut at the regions' borders.
#[inline]
fn each_piece<E: From<ScatterError>>(
    memory: &GuestMemory,
    range: GuestRange,
    mut each: impl FnMut(GuestSlice<'_>, u64) -> Result<(), E>,
) -> Result<(), E> {
    if let Ok(slice) = memory.check(range) {
        return each(slice, 0);
    }
    let mut done = 0;
    for piece in memory.pieces(range) {
        let slice = piece.map_err(ScatterError::from)?;
        each(slice, done)?;
        done += slice.len() as u64;
    }
    Ok(())
}
