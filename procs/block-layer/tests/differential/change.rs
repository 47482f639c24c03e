//! Changes of whole images: snapshots, bitmaps, sizes, options. Each is made by one of the two, at random,
//! and found by the other.

use std::ops::Range;

use bulkhead_block_layer::bitmap::Bits;
use bulkhead_block_layer::qcow2::amend::Change;
use bulkhead_block_layer::qcow2::{Options, SnapshotError};
use bulkhead_block_layer::task::finish;

use super::chain::Chain;
use super::chance::Chance;
use super::{qemu, work};

/// Snapshots in any order, each read again as it was taken. `false`: the image cannot have any.
pub fn snapshots(chain: &Chain, chance: &mut Chance, name: &str) -> bool {
    let path = qemu::path(&chain.top().path);
    if chain.top().data.is_some() {
        let refused = finish(chain.open(Options::WRITE).snapshot_create("s", 1, 2));
        assert_eq!(refused, Err(SnapshotError::External), "{name}");
        assert!(!qemu::img(&["snapshot", "-c", "s", path]).status.success(), "{name}");
        return false;
    }
    // Where counts are narrow QEMU fails, and leaves leaks or a disk that is half of each.
    let wide = work::count_bits(chain.top()) > 4;
    let mut taken: Vec<(String, Vec<u8>)> = Vec::new();
    for number in 0..2 + chance.below(4) {
        let by_us = !wide || chance.one_in(2);
        match chance.below(4) {
            2 if !taken.is_empty() => {
                let (which, bytes) = taken[chance.below(taken.len() as u64) as usize].clone();
                if by_us {
                    let image = chain.open(Options::WRITE);
                    finish(image.snapshot_apply(&which)).unwrap();
                    finish(image.shut()).unwrap();
                } else {
                    qemu::must(&["snapshot", "-a", &which, path]);
                }
                let other = work::difference(&work::ours(chain), &bytes);
                assert_eq!(other, None, "{name}: {which}, applied by us: {by_us}");
            }
            3 if !taken.is_empty() => {
                let (which, _) = taken.remove(chance.below(taken.len() as u64) as usize);
                if by_us {
                    let image = chain.open(Options::WRITE);
                    finish(image.snapshot_delete(&which)).unwrap();
                    finish(image.shut()).unwrap();
                } else {
                    qemu::must(&["snapshot", "-d", &which, path]);
                }
            }
            _ => {
                let by = if by_us { "ours" } else { "theirs" };
                let which = format!("{number}-{by}-{}", chance.below(1 << 30));
                if take(chain, &which, by_us, name) {
                    taken.push((which, work::ours(chain)));
                }
            }
        }
        work::same_check(chain, name);
        work::write_by_qemu(chain.top(), chance);
        if chance.one_in(2) {
            work::we_write(chain, chance, name);
        }
        work::same_check(chain, name);
    }
    for (which, bytes) in taken {
        if wide {
            qemu::must(&["snapshot", "-a", &which, path]);
            let other = work::difference(&work::ours(chain), &bytes);
            assert_eq!(other, None, "{name}: {which} at the end");
        }
    }
    true
}

/// `false`: the counts are too narrow, for either.
fn take(chain: &Chain, which: &str, by_us: bool, name: &str) -> bool {
    if by_us {
        let image = chain.open(Options::WRITE);
        let done = finish(image.snapshot_create(which, 1, 2));
        finish(image.shut()).unwrap();
        assert!(matches!(done, Ok(()) | Err(SnapshotError::Counts(_))), "{name}: {done:?}");
        return done.is_ok();
    }
    qemu::must(&["snapshot", "-c", which, qemu::path(&chain.top().path)]);
    true
}

/// Bitmaps made by either, written under either, and read by us.
pub fn bitmaps(chain: &Chain, chance: &mut Chance, name: &str) {
    let path = qemu::path(&chain.top().path);
    if chain.top().version < 3 {
        let refused = finish(chain.open(Options::WRITE).bitmap_add("b", 65536, true));
        assert!(refused.is_err(), "{name}");
        assert!(!qemu::img(&["bitmap", "--add", path, "b"]).status.success(), "{name}");
        return;
    }
    let granularity = 1u64 << (9 + chance.below(9));
    if chance.one_in(2) {
        let image = chain.open(Options::WRITE);
        finish(image.bitmap_add("b", granularity, true)).unwrap();
        finish(image.shut()).unwrap();
    } else {
        qemu::must(&["bitmap", "--add", "-g", &granularity.to_string(), path, "b"]);
    }
    let mut expected = Bits::new(chain.top().size, granularity);
    for _ in 0..3 {
        let ranges = if chance.one_in(2) { by_us(chain, chance) } else { by_qemu(chain, chance) };
        for range in ranges {
            expected.set(range.start, range.end - range.start);
        }
        work::same_check(chain, name);
        let image = chain.open(Options::READ);
        let bitmap = finish(image.bitmap_bits("b")).unwrap();
        assert!(bitmap.is_enabled() && !bitmap.is_in_use(), "{name}");
        assert_eq!(bitmap.bits(), Some(expected.clone()), "{name}: the bits");
    }
    // QEMU takes them over bit by bit.
    qemu::must(&["bitmap", "--add", "--disable", "-g", &granularity.to_string(), path, "c"]);
    qemu::must(&["bitmap", "--merge", "b", path, "c"]);
    let image = chain.open(Options::READ);
    assert_eq!(finish(image.bitmap_bits("c")).unwrap().bits(), Some(expected), "{name}: merged");
    drop(image);
    for bitmap in ["b", "c"] {
        let image = chain.open(Options::WRITE);
        finish(image.bitmap_remove(bitmap)).unwrap();
        finish(image.shut()).unwrap();
        work::same_check(chain, name);
    }
}

fn by_us(chain: &Chain, chance: &mut Chance) -> Vec<Range<u64>> {
    let image = chain.open(Options::WRITE);
    let mut ranges = Vec::new();
    for _ in 0..chance.below(6) {
        let (at, len) = work::range(chance, image.size());
        let bytes = vec![chance.next() as u8 | 1; len as usize];
        let heap = bulkhead_block_layer::memory::Heap::copy_of(&bytes);
        finish(image.write(at, heap.into())).unwrap();
        ranges.push(at..at + len);
    }
    finish(image.shut()).unwrap();
    ranges
}

fn by_qemu(chain: &Chain, chance: &mut Chance) -> Vec<Range<u64>> {
    let (mut ranges, mut commands) = (Vec::new(), Vec::new());
    for _ in 0..chance.below(6) {
        let (at, len) = work::range(chance, chain.top().size);
        commands.push(format!("write -P {} {at} {len}", chance.below(255) + 1));
        ranges.push(at..at + len);
    }
    qemu::io(qemu::path(&chain.top().path), &commands);
    ranges
}

/// Another size, version or width of counts. The disk stays what it was, as far as it goes.
pub fn amend(chain: &mut Chain, chance: &mut Chance, name: &str) {
    let mut model = work::ours(chain);
    let path = qemu::path(&chain.top().path).to_owned();
    let version = chain.top().version;
    match chance.below(4) {
        0 | 1 => {
            let size = (chance.below(5 << 20) + 512) / 512 * 512;
            let image = chain.open(Options::WRITE);
            // Versions without zeroes cannot hide what lies below a disk that grows.
            if version < 3 && size > image.size() && chain.links.len() > 1 {
                return;
            }
            finish(image.resize(size)).unwrap();
            finish(image.shut()).unwrap();
            model.resize(size as usize, 0);
            chain.set_size(size);
        }
        2 if version > 2 => {
            let bits = [8, 16, 32, 64][chance.below(4) as usize];
            let change = Change::RefcountBits(bits);
            finish(chain.open(Options::WRITE).amend(change)).unwrap();
        }
        _ => {
            let change = if version < 3 { Change::Upgrade } else { Change::Downgrade };
            let done = finish(chain.open(Options::WRITE).amend(change));
            let target = if version < 3 { "compat=1.1" } else { "compat=0.10" };
            let new = chain.open(Options::READ).header().incompatible != 0;
            // QEMU takes the features away that version 2 does not have; so may what needs them go.
            if done.is_err() && new {
                return;
            }
            if done.is_err() {
                let theirs = qemu::img(&["amend", "-o", target, &path]);
                assert!(!theirs.status.success(), "{name}: {done:?}, and QEMU does it");
            } else {
                chain.set_version(if version < 3 { 3 } else { 2 });
            }
        }
    }
    assert!(work::ours(chain) == model, "{name}: another disk");
}
