//! What is done to the images, and what is compared.

use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::check::{Repair, Report};
use bulkhead_block_layer::qcow2::map::Range;
use bulkhead_block_layer::qcow2::{Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;
use serde_json::Value;

use super::chain::{Chain, Link};
use super::chance::Chance;
use super::qemu;

/// A random range of sectors of a disk.
pub fn range(chance: &mut Chance, size: u64) -> (u64, u64) {
    let longest = chance.of(&[4096, 65536, 400_000]);
    let at = chance.below(size / 512) * 512;
    let len = (chance.below(longest) / 512 + 1) * 512;
    (at, len.min(size - at))
}

pub fn qemu_writes(chain: &Chain, chance: &mut Chance) {
    write_by_qemu(chain.top(), chance);
    // Narrow counts overflow by snapshots of what is compressed.
    if chance.one_in(3) && chain.top().data.is_none() && count_bits(chain.top()) > 4 {
        let image = qemu::path(&chain.top().path);
        qemu::must(&["snapshot", "-c", "first", image]);
        write_by_qemu(chain.top(), chance);
        if chance.one_in(2) {
            qemu::must(&["snapshot", "-c", "second", image]);
            write_by_qemu(chain.top(), chance);
            qemu::must(&["snapshot", "-d", "first", image]);
        }
    }
}

pub fn count_bits(link: &Link) -> u64 {
    let info = qemu::must(&["info", "--output=json", qemu::path(&link.path)]);
    let info: Value = serde_json::from_str(&info).unwrap();
    info["format-specific"]["data"]["refcount-bits"].as_u64().unwrap()
}

pub fn write_by_qemu(link: &Link, chance: &mut Chance) {
    let (mut packed, mut commands) = (Vec::new(), Vec::new());
    for _ in 0..chance.below(24) {
        let (at, len) = range(chance, link.size);
        let byte = chance.below(255) + 1;
        commands.push(match chance.below(8) {
            0 => format!("write -z {at} {len}"),
            1 => format!("write -z -u {at} {len}"),
            2 => format!("discard {at} {len}"),
            3 if link.data.is_none() => {
                let at = at / link.cluster * link.cluster;
                let len = link.cluster.min(link.size - at);
                packed.push(format!("write -c -P {byte} {at} {len}"));
                continue;
            }
            _ => format!("write -P {byte} {at} {len}"),
        });
    }
    // QEMU compresses only into what is not there yet.
    qemu::try_io(qemu::path(&link.path), &packed);
    qemu::io(qemu::path(&link.path), &commands);
}

/// Writes to the top image; what the disk must read as afterwards.
pub fn we_write(chain: &Chain, chance: &mut Chance, name: &str) -> Vec<u8> {
    let image = chain.open(Options::WRITE);
    let mut model = read_all(&image);
    for step in 0..chance.below(48) {
        let (at, len) = range(chance, image.size());
        let byte = chance.below(255) as u8 + 1;
        let part = at as usize..(at + len) as usize;
        let what = chance.below(10);
        let done = match what {
            0 => finish(image.zero(at, len, false)),
            1 => finish(image.zero(at, len, true)),
            2 => finish(image.discard(at, len)),
            3 if chain.top().data.is_none() => compressed(&image, &mut model, at, byte),
            4 => finish(image.flush()),
            _ => finish(image.write(at, Heap::copy_of(&vec![byte; len as usize]).into())),
        };
        assert_eq!(done, Ok(()), "{name}, step {step}: {what} at {at}+{len}: {:?}", image.damage());
        match what {
            0 | 1 => model[part].fill(0),
            2 => discarded(&image, &mut model, at, len, name),
            3 if chain.top().data.is_none() => {}
            4 => {}
            _ => model[part].fill(byte),
        }
        if chance.one_in(8) {
            assert!(read_all(&image) == model, "{name}, step {step}: read back");
        }
    }
    finish(image.shut()).unwrap();
    model
}

/// A discarded range reads as zeroes or as before.
fn discarded(image: &Qcow2<Plain>, model: &mut [u8], at: u64, len: u64, name: &str) {
    let now = read(image, at, len);
    for (offset, byte) in now.iter().enumerate() {
        let place = &mut model[at as usize + offset];
        assert!(*byte == 0 || byte == place, "{name}: discarded bytes became others");
        *place = *byte;
    }
}

fn compressed(
    image: &Qcow2<Plain>,
    model: &mut [u8],
    at: u64,
    byte: u8,
) -> Result<(), bulkhead_block_layer::outcome::Failure> {
    let cluster = image.cluster_size();
    let at = at / cluster * cluster;
    let len = cluster.min(image.size() - at) as usize;
    let bytes: Vec<u8> = (0..len).map(|n| byte ^ (n / 37) as u8).collect();
    model[at as usize..at as usize + len].copy_from_slice(&bytes);
    finish(image.write_compressed(at, Heap::copy_of(&bytes).into()))
}

fn read(image: &Qcow2<Plain>, at: u64, len: u64) -> Vec<u8> {
    let heap = Heap::zeroes(len as usize);
    finish(image.read(at, Memory::from(heap.clone()))).unwrap();
    heap.to_vec()
}

fn read_all(image: &Qcow2<Plain>) -> Vec<u8> {
    read(image, 0, image.size())
}

/// What we read.
pub fn ours(chain: &Chain) -> Vec<u8> {
    read_all(&chain.open(Options::READ))
}

/// What QEMU reads.
fn by_qemu(chain: &Chain) -> Vec<u8> {
    let raw = chain.top().path.with_extension("raw");
    qemu::must(&[
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        qemu::path(&chain.top().path),
        qemu::path(&raw),
    ]);
    std::fs::read(raw).unwrap()
}

pub fn difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    ours.iter()
        .zip(theirs)
        .position(|(a, b)| a != b)
        .or_else(|| (ours.len() != theirs.len()).then(|| ours.len().min(theirs.len())))
}

pub fn qemu_reads(chain: &Chain, model: &[u8], name: &str) {
    assert_eq!(difference(model, &by_qemu(chain)), None, "{name}: QEMU reads something else at");
    if chain.top().data_raw {
        let data = std::fs::read(chain.top().data.as_ref().unwrap()).unwrap();
        assert_eq!(difference(&data[..model.len()], model), None, "{name}: the raw data file");
    }
}

pub fn same_bytes(chain: &Chain, name: &str) {
    let image = chain.open(Options::READ);
    assert_eq!(difference(&read_all(&image), &by_qemu(chain)), None, "{name}: other bytes at");
}

/// Both maps, without what QEMU adds from holes in the files, and without places of what is not there.
pub fn same_map(chain: &Chain, name: &str) {
    if chain.links.iter().any(|link| link.raw || link.data.is_some()) {
        return;
    }
    let theirs = qemu::must(&["map", "--output=json", qemu::path(&chain.top().path)]);
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let theirs = theirs.as_array().unwrap().iter().map(|range| {
        let number = |key: &str| range[key].as_u64();
        let truth = |key: &str| range[key].as_bool().unwrap();
        Range {
            start: number("start").unwrap(),
            length: number("length").unwrap(),
            depth: number("depth").unwrap() as u32,
            present: truth("present"),
            zero: truth("zero"),
            data: truth("data"),
            compressed: false,
            offset: number("offset"),
        }
    });
    let (ours, theirs) = (merged(map(&chain.open(Options::READ))), merged(theirs));
    let first = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
    if let Some(first) = first {
        panic!("{name}: range {first} is {:?} here and {:?} there", ours[first], theirs[first]);
    }
    assert_eq!(ours.len(), theirs.len(), "{name}: ranges");
}

fn merged(ranges: impl IntoIterator<Item = Range>) -> Vec<Range> {
    let mut merged = Vec::<Range>::new();
    for range in ranges {
        let zero = range.zero && !range.data;
        let offset = range.offset.filter(|_| range.present);
        let range = Range { zero, offset, compressed: false, ..range };
        match merged.last_mut() {
            Some(last) if last.goes_on(&range) => last.length += range.length,
            _ => merged.push(range),
        }
    }
    merged
}

fn map(image: &Qcow2<Plain>) -> Vec<Range> {
    let (mut ranges, mut at) = (Vec::<Range>::new(), 0);
    while at < image.size() {
        let range = finish(image.range(at, image.size() - at)).unwrap();
        at += range.length;
        ranges.push(range);
    }
    ranges
}

pub fn same_check(chain: &Chain, name: &str) {
    let output = qemu::img(&["check", "--output=json", qemu::path(&chain.top().path)]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Value = serde_json::from_str(&text).unwrap();
    let report = finish(chain.open(Options::READ).check(Repair::Nothing)).unwrap();
    let Report { corruptions, leaks, allocated, compressed, total, image_end, .. } = report;
    let number = |key: &str| theirs[key].as_u64().unwrap_or(0);
    assert_eq!((corruptions, leaks), (0, 0), "{name}: {:#?}", report.findings);
    assert_eq!(total, number("total-clusters"), "{name}: clusters");
    assert_eq!(allocated, number("allocated-clusters"), "{name}: allocated clusters");
    assert_eq!(compressed, number("compressed-clusters"), "{name}: compressed clusters");
    assert_eq!(image_end, number("image-end-offset"), "{name}: end of the image");
}
