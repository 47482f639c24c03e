//! Which heads the device has in its hands: a bit each, in private memory.

/// A set of heads.
#[derive(Debug)]
pub(crate) struct Occupancy {
    words: Vec<u64>,
    count: u16,
}

impl Occupancy {
    pub(crate) fn new(size: u16) -> Self {
        Self { words: vec![0; usize::from(size).div_ceil(64)], count: 0 }
    }

    /// How many are in the set.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Adds `head`; `false` if it is there already or no head of this queue.
    pub(crate) fn insert(&mut self, head: u16) -> bool {
        self.flip(head, false)
    }

    /// Removes `head`; `false` if it is not there.
    pub(crate) fn remove(&mut self, head: u16) -> bool {
        self.flip(head, true)
    }

    fn flip(&mut self, head: u16, expected: bool) -> bool {
        let bit = 1 << (head % 64);
        let Some(word) = self.words.get_mut(usize::from(head / 64)) else {
            return false;
        };
        if (*word & bit != 0) != expected {
            return false;
        }
        *word ^= bit;
        self.count = if expected { self.count - 1 } else { self.count + 1 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_in_the_set_at_most_once() {
        let mut set = Occupancy::new(65);
        assert!(set.insert(0) && set.insert(64));
        assert!(!set.insert(64));
        assert_eq!(set.count(), 2);
        assert!(set.remove(64) && !set.remove(64));
        assert!(!set.insert(500) && !set.remove(500));
        assert_eq!(set.count(), 1);
    }
}
