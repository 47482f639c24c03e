//! Our jobs beside QEMU's, on copies of the same chain of images: the same bytes, no data where
//! QEMU leaves a hole, the same name of the backing file, and the same numbers of what was done and what
//! there was to do.
//!
//! Every chain comes from a number, so a failure is repeated by `BULKHEAD_IMAGE=NUMBER`. A few run with
//! the other tests; `BULKHEAD_IMAGES=COUNT` runs more. Skipped where there is no qemu-storage-daemon.

#[path = "../differential/chance.rs"]
mod chance;
mod images;
mod ours;
mod theirs;

use chance::Chance;
use images::{Folder, Kind};

/// Chains of a usual run.
const FEW: u64 = 3;

fn numbers() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("BULKHEAD_IMAGE") {
        Some(one) => vec![one],
        None => (0..number("BULKHEAD_IMAGES").unwrap_or(FEW)).collect(),
    }
}

fn for_each(kind: Kind) {
    if !theirs::is_there() {
        eprintln!("skipped: there is no qemu-storage-daemon");
        return;
    }
    for number in numbers() {
        let mut chance = Chance::new(number * 16 + kind as u64);
        let name = format!("{kind:?}, image {number}");
        let _further = chance.one_in(2);
        let folder = Folder::fill(&mut chance, kind);
        let (ours, theirs) = folder.copies();
        let here = ours::run(&ours, kind);
        let there = theirs::run(&theirs, kind);
        assert_eq!(here, there, "{name}: done and to do, ours and theirs");
        ours.is_like(&theirs, kind, &name);
    }
}

#[test]
fn stream_is_like_qemus() {
    for_each(Kind::Stream);
}

#[test]
fn stream_onto_a_base_is_like_qemus() {
    for_each(Kind::StreamBase);
}

#[test]
fn commit_below_the_top_is_like_qemus() {
    for_each(Kind::Commit);
}

#[test]
fn active_commit_is_like_qemus() {
    for_each(Kind::Active);
}

#[test]
fn mirror_to_raw_is_like_qemus() {
    for_each(Kind::MirrorRaw);
}

#[test]
fn mirror_to_qcow2_is_like_qemus() {
    for_each(Kind::MirrorQcow2);
}

#[test]
fn backup_is_like_qemus() {
    for_each(Kind::Backup);
}

#[test]
fn backup_of_the_top_is_like_qemus() {
    for_each(Kind::BackupTop);
}
