//! Clusters that nobody uses any more.

/// Ranges that are remembered apart from each other.
const MOST: usize = 1 << 16;

/// They, and perhaps others between them: whoever gives them back to the host looks at the counts.
#[derive(Debug, Default)]
pub(super) struct Freed(Vec<(u64, u64)>);

impl Freed {
    pub(super) fn add(&mut self, cluster: u64) {
        if let Some((_, end)) = self.0.last_mut().filter(|(_, end)| *end == cluster) {
            *end += 1;
            return;
        }
        if self.0.len() == MOST {
            let first = self.0.iter().map(|(first, _)| *first).min().unwrap_or(cluster);
            let end = self.0.iter().map(|(_, end)| *end).max().unwrap_or(cluster);
            self.0 = vec![(first, end)];
        }
        self.0.push((cluster, cluster + 1));
    }

    /// Each of them once or more.
    pub(super) fn clusters(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(first, end)| *first..*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_clusters_cost_bounded_memory_and_none_is_forgotten() {
        let mut freed = Freed::default();
        for cluster in (0..300_000).rev().step_by(2) {
            freed.add(cluster);
        }
        assert!(freed.0.len() <= MOST);
        let all: std::collections::HashSet<u64> = freed.clusters().collect();
        assert!((0..300_000).rev().step_by(2).all(|cluster| all.contains(&cluster)));
        assert!(all.iter().all(|cluster| *cluster < 300_000));
    }
}
