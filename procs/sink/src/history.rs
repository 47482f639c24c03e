//! The last bytes of a stream, by their position in it.
//!
//! One buffer serves every viewer: a viewer is a position. Positions count from the first byte the
//! device ever wrote and never wrap in practice (2⁶⁴ bytes). Beyond what is promised to the next
//! viewer ([`History::opening`]) the buffer keeps as much again as [`SLACK`], which is how far a
//! viewer may fall behind before it is lost.

/// Bytes that a viewer may fall behind: some screens, and more than one read brings.
pub const SLACK: usize = 256 * 1024;

/// A ring of bytes.
#[derive(Debug)]
pub struct History {
    bytes: Box<[u8]>,
    /// Position of the first byte that is kept.
    start: u64,
    /// Position after the last.
    end: u64,
    promised: usize,
}

impl History {
    /// An empty history that keeps `promised` bytes for the next viewer.
    pub fn new(promised: usize) -> Self {
        let bytes = vec![0; promised + SLACK].into_boxed_slice();
        Self { bytes, start: 0, end: 0, promised }
    }

    /// Where a new viewer begins.
    pub fn opening(&self) -> u64 {
        self.end.saturating_sub(self.promised as u64)
    }

    /// Where the next byte will be.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Adds output; the oldest bytes make room.
    pub fn append(&mut self, mut output: &[u8]) {
        while !output.is_empty() {
            let from = self.index(self.end);
            let run = output.len().min(self.bytes.len() - from);
            let (now, later) = output.split_at(run);
            if let Some(place) = self.bytes.get_mut(from..from + run) {
                place.copy_from_slice(now);
            }
            self.end += run as u64;
            output = later;
        }
        self.start = self.start.max(self.end.saturating_sub(self.bytes.len() as u64));
    }

    /// A piece from `position` on, in one run: up to the end of the buffer or of the output. Empty if
    /// there is nothing newer; `None` if those bytes are gone.
    pub fn piece(&self, position: u64) -> Option<&[u8]> {
        if position < self.start || position > self.end {
            return None;
        }
        let from = self.index(position);
        let newer = usize::try_from(self.end - position).ok()?;
        let run = newer.min(self.bytes.len() - from);
        self.bytes.get(from..from + run)
    }

    fn index(&self, position: u64) -> usize {
        (position % self.bytes.len() as u64) as usize
    }
}
