//! A row of bits that is searched a word at a time.

/// `len` bits. Law of all methods: positions lie below `len`, except where said.
#[derive(Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(super) fn zeroes(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub(super) fn ones(len: usize) -> Self {
        let mut bits = Self::zeroes(len);
        bits.set(0, len);
        bits
    }

    pub(super) fn get(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// Sets `count` bits from `first`.
    pub(super) fn set(&mut self, first: usize, count: usize) {
        self.each_word(first, count, |word, mask| *word |= mask);
    }

    /// Clears `count` bits from `first`.
    pub(super) fn clear(&mut self, first: usize, count: usize) {
        self.each_word(first, count, |word, mask| *word &= !mask);
    }

    fn each_word(&mut self, first: usize, count: usize, change: impl Fn(&mut u64, u64)) {
        let mut at = first;
        let end = first + count;
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            change(&mut self.words[at / 64], mask);
            at += bits;
        }
    }

    /// First 1 at or after `from`, which may be anything.
    pub(super) fn next_one(&self, from: usize) -> Option<usize> {
        self.search(from, |word| word).filter(|at| *at < self.len)
    }

    /// First 0 at or after `from`; `len` if there is none.
    pub(super) fn next_zero(&self, from: usize) -> usize {
        self.search(from, |word| !word).map_or(self.len, |at| at.min(self.len))
    }

    fn search(&self, from: usize, view: impl Fn(u64) -> u64) -> Option<usize> {
        let mut index = from / 64;
        let mut word = view(*self.words.get(index)?) & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            word = view(*self.words.get(index)?);
        }
        Some(index * 64 + word.trailing_zeros() as usize)
    }
}
