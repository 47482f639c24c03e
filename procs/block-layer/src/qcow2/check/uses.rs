//! How often each cluster of a file is used, by what was walked so far.
//!
//! Two bytes a cluster, which most images' own counts have as well; the few that are used more often are kept
//! apart. Where nobody uses anything, pages are not made: holes of a file cost neither memory nor time.

use std::collections::HashMap;

/// Clusters of a page.
const PAGE: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Uses {
    clusters: u64,
    /// `u16::MAX`: see `more`.
    pages: Vec<Option<Box<[u16; PAGE]>>>,
    more: HashMap<u64, u64>,
}

impl Uses {
    /// Of so many clusters, none of which is used.
    pub(super) fn new(clusters: u64) -> Self {
        let pages = clusters.div_ceil(PAGE as u64) as usize;
        Self { clusters, pages: vec![None; pages], more: HashMap::new() }
    }

    /// Clusters of the file.
    pub(super) fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Uses of a cluster; none of one behind the end of the file.
    pub(super) fn of(&self, cluster: u64) -> u64 {
        let (page, index) = place(cluster);
        match self.pages.get(page).and_then(Option::as_ref).map(|page| page[index]) {
            Some(u16::MAX) => self.more.get(&cluster).copied().unwrap_or(u16::MAX.into()),
            few => few.map_or(0, u64::from),
        }
    }

    /// One use more; how many there were before, `None` behind the end of the file.
    pub(super) fn add(&mut self, cluster: u64) -> Option<u64> {
        let had = self.of(cluster);
        self.set(cluster, had + 1)?;
        Some(had)
    }

    /// One use less, if there is one.
    pub(super) fn take(&mut self, cluster: u64) {
        if let Some(left) = self.of(cluster).checked_sub(1) {
            self.set(cluster, left);
        }
    }

    fn set(&mut self, cluster: u64, uses: u64) -> Option<()> {
        if cluster >= self.clusters {
            return None;
        }
        let (page, index) = place(cluster);
        let page = self.pages.get_mut(page)?.get_or_insert_with(|| Box::new([0; PAGE]));
        let few = u16::try_from(uses).unwrap_or(u16::MAX);
        page[index] = few;
        if few == u16::MAX {
            self.more.insert(cluster, uses);
        }
        Some(())
    }

    /// The clusters from `from` to `end` that are used, and how often.
    pub(super) fn used(&self, from: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let (first, last) = (place(from).0, place(end.min(self.clusters)).0);
        let pages = self.pages.iter().enumerate().take(last + 1).skip(first);
        let there = pages.filter_map(|(number, page)| Some((number * PAGE, page.as_ref()?)));
        there
            .flat_map(|(first, page)| (first as u64..).zip(page.iter()))
            .filter(move |(cluster, few)| **few > 0 && (from..end).contains(cluster))
            .map(|(cluster, _)| (cluster, self.of(cluster)))
    }
}

fn place(cluster: u64) -> (usize, usize) {
    ((cluster / PAGE as u64) as usize, (cluster % PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_beyond_two_bytes_are_counted_on_and_back() {
        let mut uses = Uses::new(3);
        for had in 0..70_000 {
            assert_eq!(uses.add(1), Some(had));
        }
        assert_eq!(uses.used(0, 3).collect::<Vec<_>>(), [(1, 70_000)]);
        for _ in 0..4465 {
            uses.take(1);
        }
        assert_eq!(uses.of(1), 65_535);
        uses.take(1);
        assert_eq!((uses.of(1), uses.add(1)), (65_534, Some(65_534)));
        assert_eq!((uses.of(3), uses.add(3)), (0, None));
        uses.take(0);
        assert_eq!(uses.of(0), 0);
    }

    #[test]
    fn a_hole_is_skipped_and_what_lies_around_it_is_found() {
        let mut uses = Uses::new(1 << 30);
        for cluster in [5, 4095, 4096, (1 << 30) - 1] {
            uses.add(cluster);
        }
        let found = |from, end| uses.used(from, end).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(found(0, 1 << 30), [5, 4095, 4096, (1 << 30) - 1]);
        assert_eq!(found(6, 4096), [4095]);
        assert_eq!(found(4096, 4097), [4096]);
        assert_eq!(found(1 << 20, 1 << 21), []);
    }
}
