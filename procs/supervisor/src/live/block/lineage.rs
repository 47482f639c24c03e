//! What each kind of job makes of a disk's chain: a block-layer that wants anything else is not followed.
//!
//! Called by [`super::switch`] with the chain as it is recorded. Nothing but the job changes it meanwhile:
//! see [`crate::live::Instance::refuse_busy`].

use bulkhead_protocol::block::{JobKind, LayerNumber};
use bulkhead_protocol::block_control::Extent;

/// The chain after the job, the top layer first; none: it changes nothing, or its layers are not there.
pub fn after(job: &JobKind, chain: &[LayerNumber]) -> Option<Vec<LayerNumber>> {
    let depth = |number| chain.iter().position(|other| *other == number);
    let without = |from: usize, to: usize| {
        let (above, below) = (chain.get(..from)?, chain.get(to..)?);
        (from < to).then(|| [above, below].concat())
    };
    match job {
        JobKind::Stream { base: None, .. } => without(1, chain.len()),
        JobKind::Stream { base: Some(base), .. } => without(1, depth(*base)?),
        JobKind::Commit { top, base, .. } => without(depth(*top)?, depth(*base)?),
        JobKind::Mirror { target, sync, .. } => {
            let below = if *sync == Extent::Top { chain.get(1..)? } else { &[] };
            Some([&[target.named.layer], below].concat())
        }
        JobKind::Backup { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_protocol::block::{LayerFormat, NamedLayer, TargetPlan};
    use bulkhead_protocol::block_control::CopyMode;
    use bulkhead_protocol::spec::CacheMode;

    use super::*;

    const CHAIN: [LayerNumber; 4] = [7, 2, 1, 0];

    fn commit(top: LayerNumber, base: LayerNumber) -> JobKind {
        let (data_file, journal) = (false, true);
        let (cache, above, backing_file) = (CacheMode::Writeback, None, None);
        JobKind::Commit { top, base, cache, data_file, journal, above, backing_file }
    }

    fn stream(base: Option<LayerNumber>) -> JobKind {
        JobKind::Stream { base, backing_file: None }
    }

    fn target() -> TargetPlan {
        let named = NamedLayer { layer: 9, name: "/t".into(), format: LayerFormat::Raw };
        TargetPlan { named, create: None, cache: CacheMode::Writeback, remote: None }
    }

    #[test]
    fn each_kind_of_job_makes_one_chain_of_another() {
        let of = |job: JobKind| after(&job, &CHAIN);
        assert_eq!(of(stream(None)), Some(vec![7]));
        assert_eq!(of(stream(Some(1))), Some(vec![7, 1, 0]));
        assert_eq!(of(commit(7, 0)), Some(vec![0]));
        assert_eq!(of(commit(2, 1)), Some(vec![7, 1, 0]));
        let mirror = |sync| {
            let (granularity, mode) = (0, CopyMode::Background);
            JobKind::Mirror { target: target(), sync, granularity, mode }
        };
        assert_eq!(of(mirror(Extent::Full)), Some(vec![9]));
        assert_eq!(of(mirror(Extent::None)), Some(vec![9]));
        assert_eq!(of(mirror(Extent::Top)), Some(vec![9, 2, 1, 0]));
    }

    #[test]
    fn what_changes_nothing_or_names_strangers_makes_none() {
        let of = |job: JobKind| after(&job, &CHAIN);
        let backup = JobKind::Backup { target: target(), sync: Extent::Full, bitmap: None };
        assert_eq!(of(backup), None);
        assert_eq!(of(stream(Some(5))), None);
        assert_eq!(of(stream(Some(7))), None);
        assert_eq!(of(stream(Some(2))), None, "it is next already");
        assert_eq!(of(commit(1, 2)), None);
        assert_eq!(of(commit(1, 1)), None);
        assert_eq!(after(&stream(None), &[3]), None);
    }
}
