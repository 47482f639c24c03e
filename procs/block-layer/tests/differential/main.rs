//! Our qcow2 beside QEMU's, over generated images: what one writes the other reads, and each one's check
//! finds nothing to complain about in the other's work.
//!
//! Every image comes from a number, so a failure is repeated by `BULKHEAD_IMAGE=NUMBER`. A few run with
//! the other tests; `BULKHEAD_IMAGES=COUNT` runs more.

mod chain;
mod chance;
mod change;
mod qemu;
mod work;

use chain::Chain;
use chance::Chance;

/// Images of a usual run.
const FEW: u64 = 24;

fn numbers() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("BULKHEAD_IMAGE") {
        Some(one) => vec![one],
        None => (0..number("BULKHEAD_IMAGES").unwrap_or(FEW)).collect(),
    }
}

/// Runs `test` for each number, and names the number of one that fails.
fn for_each(test: impl Fn(Chance, &str)) {
    if !qemu::is_there() {
        eprintln!("skipped: there is no qemu-img");
        return;
    }
    for number in numbers() {
        test(Chance::new(number), &format!("image {number}"));
    }
}

#[test]
fn what_qemu_writes_is_read_mapped_and_found_free_of_errors() {
    for_each(|mut chance, name| {
        let chain = Chain::by_qemu(&mut chance);
        work::qemu_writes(&chain, &mut chance);
        work::same_bytes(&chain, name);
        work::same_map(&chain, name);
        work::same_check(&chain, name);
    });
}

#[test]
fn what_is_written_here_qemu_reads_and_finds_free_of_errors() {
    for_each(|mut chance, name| {
        let chain = match chance.one_in(2) {
            true => Chain::by_qemu(&mut chance),
            false => Chain::by_us(&mut chance),
        };
        if chance.one_in(2) {
            work::qemu_writes(&chain, &mut chance);
        }
        let model = work::we_write(&chain, &mut chance, name);
        work::qemu_reads(&chain, &model, name);
        work::same_bytes(&chain, name);
        work::same_map(&chain, name);
        work::same_check(&chain, name);
        // And QEMU goes on where we ended.
        work::qemu_writes(&chain, &mut chance);
        work::same_bytes(&chain, name);
        work::same_check(&chain, name);
    });
}

#[test]
fn what_either_changes_of_a_whole_image_the_other_finds() {
    for_each(|mut chance, name| {
        let mut chain = match chance.one_in(2) {
            true => Chain::by_qemu(&mut chance),
            false => Chain::by_us(&mut chance),
        };
        work::qemu_writes(&chain, &mut chance);
        for _ in 0..2 {
            if !has_snapshots(&chain) {
                change::amend(&mut chain, &mut chance, name);
                work::same_check(&chain, name);
            }
            match chance.below(2) {
                0 => {
                    change::snapshots(&chain, &mut chance, name);
                }
                _ => change::bitmaps(&chain, &mut chance, name),
            }
            work::same_bytes(&chain, name);
            work::same_map(&chain, name);
            work::same_check(&chain, name);
        }
    });
}

fn has_snapshots(chain: &Chain) -> bool {
    !chain.open(bulkhead_block_layer::qcow2::Options::READ).snapshots().is_empty()
}
