//! The bits, and nothing else: who keeps them where is not their business.
//!
//! They come in pages, and a page that is all alike takes no memory: a bitmap of a large disk costs what its changes
//! are worth.

use std::ops::Range;

/// Words of a page.
const WORDS: usize = 64;

/// Granules of a page.
const PAGE: u64 = WORDS as u64 * 64;

/// Smallest granule.
pub const LEAST_GRANULARITY: u64 = 512;

/// Largest granule.
pub const MOST_GRANULARITY: u64 = 1 << 31;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Clear,
    Set,
    Mixed(Box<[u64; WORDS]>),
}

impl Page {
    fn word(&self, index: usize) -> u64 {
        match self {
            Self::Clear => 0,
            Self::Set => u64::MAX,
            Self::Mixed(words) => words.get(index).copied().unwrap_or(0),
        }
    }

    fn words(&mut self) -> &mut [u64; WORDS] {
        match self {
            Self::Clear => *self = Self::Mixed(Box::new([0; WORDS])),
            Self::Set => *self = Self::Mixed(Box::new([u64::MAX; WORDS])),
            Self::Mixed(_) => {}
        }
        match self {
            Self::Mixed(words) => words,
            _ => unreachable!("it was made a page of words"),
        }
    }
}

/// See the module. Places and lengths are bytes of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits {
    size: u64,
    bits: u32,
    pages: Vec<Page>,
    /// Granules that are set.
    count: u64,
}

impl Bits {
    /// A clear bitmap for a disk of `size` bytes. `granularity` is a power of two between
    /// [`LEAST_GRANULARITY`] and [`MOST_GRANULARITY`]; another is taken as the nearest of those.
    pub fn new(size: u64, granularity: u64) -> Self {
        let granularity = granularity.clamp(LEAST_GRANULARITY, MOST_GRANULARITY);
        let bits = granularity.ilog2();
        let pages = size.div_ceil(1 << bits).div_ceil(PAGE) as usize;
        Self { size, bits, pages: vec![Page::Clear; pages], count: 0 }
    }

    /// Bytes of a granule.
    pub fn granularity(&self) -> u64 {
        1 << self.bits
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are dirty, by whole granules as QEMU counts them.
    pub fn dirty_bytes(&self) -> u64 {
        self.count << self.bits
    }

    /// Granules of the disk.
    pub fn granules(&self) -> u64 {
        self.size.div_ceil(1 << self.bits)
    }

    /// Sets every granule that the range touches; how many were clear.
    pub fn set(&mut self, at: u64, len: u64) -> u64 {
        let end = at.saturating_add(len).min(self.size);
        if at >= end {
            return 0;
        }
        self.change((at >> self.bits)..end.div_ceil(1 << self.bits), true)
    }

    /// Clears every granule that lies wholly in the range, the last one as far as the disk goes.
    pub fn clear(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len).min(self.size);
        let last = if end == self.size { self.granules() } else { end >> self.bits };
        self.change(at.div_ceil(1 << self.bits)..last, false);
    }

    /// Whether the granule of this byte is set.
    pub fn is_dirty(&self, at: u64) -> bool {
        at < self.size && self.bit(at >> self.bits)
    }

    /// The first dirty bytes between `from` and `end`, as far as they follow each other.
    pub fn next_dirty(&self, from: u64, end: u64) -> Option<Range<u64>> {
        let end = end.min(self.size);
        let start = self.find(from, end, true)?;
        let stop = self.find(start, end, false).unwrap_or(end);
        Some(start..stop)
    }

    /// The first run of dirty bytes at or behind `from`, at most `longest` of them.
    pub fn next_run(&self, from: u64, longest: u64) -> Option<Range<u64>> {
        let start = self.find(from, self.size, true)?;
        let most = start.saturating_add(longest).min(self.size);
        Some(start..self.find(start, most, false).unwrap_or(most))
    }

    /// Sets what `other` has set. Both are of one disk; their granules may differ.
    pub fn merge(&mut self, other: &Self) {
        let mut at = 0;
        while let Some(range) = other.next_dirty(at, self.size) {
            self.set(range.start, range.end - range.start);
            at = range.end;
        }
    }

    /// The disk has another size. What is added is clear.
    pub fn resize(&mut self, size: u64) {
        let old = std::mem::replace(self, Self::new(size, self.granularity()));
        let mut at = 0;
        while let Some(range) = old.next_dirty(at, size) {
            self.set(range.start, range.end - range.start);
            at = range.end;
        }
    }

    /// The bits from granule `first` on as bytes, the first granule in the lowest bit. Bits behind the
    /// last granule are 0.
    pub fn bytes(&self, first: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let granules = self.granules();
        for (index, byte) in bytes.iter_mut().enumerate() {
            let granule = first + index as u64 * 8;
            if granule >= granules {
                break;
            }
            let rest = granules - granule;
            let mask = if rest < 8 { (1u8 << rest) - 1 } else { u8::MAX };
            *byte = (self.word(granule / 64) >> (granule % 64)) as u8 & mask;
        }
        bytes
    }

    /// Sets the granules whose bits are set, as [`bytes`](Self::bytes) gives them.
    pub fn load(&mut self, first: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            let granule = first + index as u64 * 8;
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                if granule + bit < self.granules() {
                    self.change(granule + bit..granule + bit + 1, true);
                }
            }
        }
    }

    /// Whether `count` granules from `first` on are all alike, and which.
    pub fn alike(&self, first: u64, count: u64) -> Option<bool> {
        let end = (first + count).min(self.granules());
        let (from, to) = (first << self.bits, (end << self.bits).min(self.size));
        let set = self.bit(first);
        self.find(from, to, !set).is_none().then_some(set)
    }

    fn bit(&self, granule: u64) -> bool {
        self.word(granule / 64) >> (granule % 64) & 1 == 1
    }

    fn word(&self, index: u64) -> u64 {
        let page = self.pages.get((index as usize) / WORDS);
        page.map_or(0, |page| page.word(index as usize % WORDS))
    }

    /// Changes granules; how many were otherwise.
    fn change(&mut self, granules: Range<u64>, set: bool) -> u64 {
        let (mut at, mut changed) = (granules.start, 0);
        while at < granules.end {
            let end = ((at / PAGE + 1) * PAGE).min(granules.end);
            let Some(page) = self.pages.get_mut((at / PAGE) as usize) else {
                break;
            };
            changed += change_page(page, at % PAGE..at % PAGE + (end - at), set);
            at = end;
        }
        // Bits behind the last granule are never asked for: ranges end with the disk.
        self.count = if set { self.count + changed } else { self.count - changed };
        changed
    }

    /// The first byte from `from` on whose granule is (not) set.
    fn find(&self, from: u64, end: u64, set: bool) -> Option<u64> {
        if from >= end {
            return None;
        }
        let (mut granule, last) = (from >> self.bits, end.div_ceil(1 << self.bits));
        while granule < last {
            let page = self.pages.get((granule / PAGE) as usize)?;
            if *page == (if set { Page::Clear } else { Page::Set }) {
                granule = (granule / PAGE + 1) * PAGE;
                continue;
            }
            let word = page.word((granule % PAGE / 64) as usize);
            let wanted = if set { word } else { !word } >> (granule % 64);
            if wanted == 0 {
                granule = (granule / 64 + 1) * 64;
                continue;
            }
            granule += u64::from(wanted.trailing_zeros());
            let at = (granule << self.bits).max(from);
            return (at < end).then_some(at);
        }
        None
    }
}

/// Changes bits of a page; how many were otherwise.
fn change_page(page: &mut Page, bits: Range<u64>, set: bool) -> u64 {
    let alike = if set { Page::Set } else { Page::Clear };
    if *page == alike {
        return 0;
    }
    if bits == (0..PAGE) {
        let had: u32 = (0..WORDS).map(|index| page.word(index).count_ones()).sum();
        *page = alike;
        return if set { PAGE - u64::from(had) } else { had.into() };
    }
    let (words, mut changed) = (page.words(), 0);
    let mut at = bits.start;
    while at < bits.end {
        let end = ((at / 64 + 1) * 64).min(bits.end);
        let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
        let word = &mut words[(at / 64) as usize];
        let new = if set { *word | mask } else { *word & !mask };
        changed += u64::from((new ^ *word).count_ones());
        *word = new;
        at = end;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by hand.
    struct Plain(Vec<bool>);

    #[test]
    fn ranges_are_what_a_list_of_bits_says() {
        let (size, granularity) = (9_000_000u64, 512u64);
        let mut bitmap = Bits::new(size, granularity);
        let mut plain = Plain(vec![false; bitmap.granules() as usize]);
        let mut chance = 77u64;
        let mut below = |end: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance >> 8) % end
        };
        for _ in 0..300 {
            let at = below(size);
            let longest = [1, 5000, 4_000_000][below(3) as usize];
            let len = 1 + below(longest);
            let end = (at + len).min(size);
            if below(2) == 0 {
                bitmap.set(at, len);
                plain.0[(at / granularity) as usize..end.div_ceil(granularity) as usize].fill(true);
            } else {
                bitmap.clear(at, len);
                let last = if end == size { bitmap.granules() } else { end / granularity };
                let first = at.div_ceil(granularity).min(last);
                plain.0[first as usize..last as usize].fill(false);
            }
            let set = plain.0.iter().filter(|set| **set).count() as u64;
            assert_eq!(bitmap.count, set);
        }
        let (mut at, mut dirty) = (0, vec![false; plain.0.len()]);
        while let Some(range) = bitmap.next_dirty(at, size) {
            let granules = range.start / granularity..range.end.div_ceil(granularity);
            dirty[granules.start as usize..granules.end as usize].fill(true);
            at = range.end;
        }
        assert_eq!(dirty, plain.0);
        let mut again = Bits::new(size, granularity);
        again.load(0, &bitmap.bytes(0, plain.0.len().div_ceil(8)));
        assert!(again.next_dirty(0, size) == bitmap.next_dirty(0, size));
        assert_eq!(again.dirty_bytes(), bitmap.dirty_bytes());
        let mut coarse = Bits::new(size, 65536);
        coarse.merge(&bitmap);
        assert!((0..size).step_by(512).all(|at| !bitmap.is_dirty(at) || coarse.is_dirty(at)));
    }

    #[test]
    fn the_last_granule_ends_with_the_disk() {
        let mut bitmap = Bits::new(100_000, 65536);
        bitmap.set(99_999, 1);
        assert_eq!(bitmap.dirty_bytes(), 65536);
        assert_eq!(bitmap.next_dirty(0, u64::MAX), Some(65536..100_000));
        bitmap.clear(65537, 100_000);
        assert!(bitmap.is_dirty(70_000), "a part of a granule is not cleared");
        bitmap.clear(65536, 100_000 - 65536);
        assert_eq!(bitmap.dirty_bytes(), 0);
        bitmap.set(0, 100_000);
        bitmap.resize(1 << 20);
        assert_eq!(bitmap.dirty_bytes(), 131_072, "what is added is clear, by whole granules");
        bitmap.resize(1000);
        assert_eq!(bitmap.next_dirty(0, 1000), Some(0..1000));
    }
}
