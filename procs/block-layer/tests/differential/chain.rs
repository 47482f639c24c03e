//! Chains of generated images.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::header::Compression;
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{Files, Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;
use tempfile::TempDir;

use super::chance::Chance;
use super::qemu;

/// One file of a chain.
pub struct Link {
    pub path: PathBuf,
    pub raw: bool,
    pub data: Option<PathBuf>,
    pub data_raw: bool,
    pub size: u64,
    pub cluster: u64,
    pub version: u32,
}

/// A chain, the image at its top last.
pub struct Chain {
    _dir: TempDir,
    pub links: Vec<Link>,
}

impl Chain {
    pub fn by_qemu(chance: &mut Chance) -> Self {
        Self::make(chance, make_by_qemu)
    }

    pub fn by_us(chance: &mut Chance) -> Self {
        Self::make(chance, make_by_us)
    }

    fn make(chance: &mut Chance, top: impl Fn(&mut Chance, &mut Link, Option<&Link>)) -> Self {
        let dir = TempDir::new_in("/dev/shm").unwrap();
        let depth = chance.of(&[0, 0, 0, 1, 1, 2, 3, 4]);
        let mut links: Vec<Link> = Vec::new();
        for number in 0..=depth {
            let path = dir.path().join(format!("{number}.img"));
            let is_top = number == depth;
            let raw = number == 0 && !is_top && chance.one_in(2);
            let size = (chance.below(3 << 20) + 512) / 512 * 512;
            let (data, data_raw, cluster) = (None, false, 0);
            let mut link = Link { path, raw, data, data_raw, size, cluster, version: 3 };
            let below = links.last();
            match (raw, is_top) {
                (true, _) => make_raw(chance, &link),
                (false, true) => top(chance, &mut link, below),
                (false, false) => {
                    make_by_qemu(chance, &mut link, below);
                    super::work::write_by_qemu(&link, chance);
                }
            }
            links.push(link);
        }
        Self { _dir: dir, links }
    }

    pub fn top(&self) -> &Link {
        self.links.last().unwrap()
    }

    pub fn set_size(&mut self, size: u64) {
        if let Some(top) = self.links.last_mut() {
            top.size = size;
        }
    }

    pub fn set_version(&mut self, version: u32) {
        if let Some(top) = self.links.last_mut() {
            top.version = version;
        }
    }

    pub fn open(&self, options: Options) -> Qcow2<Plain> {
        let mut below = None;
        for link in &self.links[..self.links.len() - 1] {
            below = Some(match link.raw {
                true => Layer::raw(plain(&link.path, true), link.size),
                false => open(link, below, Options::READ).into(),
            });
        }
        open(self.top(), below, options)
    }
}

fn open(link: &Link, backing: Option<Layer<Plain>>, options: Options) -> Qcow2<Plain> {
    let file = plain(&link.path, options.read_only);
    let data = link.data.as_ref().map(|path| plain(path, options.read_only));
    let files = Files { file, data, backing };
    finish(Qcow2::open(files, Box::new(Nothing), options)).unwrap()
}

pub fn plain(path: &std::path::Path, read_only: bool) -> Plain {
    let file = File::options().read(true).write(!read_only).open(path).unwrap();
    Plain::new(file.into(), true).unwrap()
}

fn make_raw(chance: &mut Chance, link: &Link) {
    let file = File::create(&link.path).unwrap();
    file.set_len(link.size).unwrap();
    for _ in 0..chance.below(8) {
        let at = chance.below(link.size / 512) * 512;
        let len = (chance.below(100_000) + 1).min(link.size - at) as usize;
        file.write_all_at(&vec![chance.next() as u8; len], at).unwrap();
    }
}

fn wanted(chance: &mut Chance, link: &Link, below: Option<&Link>) -> Wanted {
    let version = if chance.one_in(4) { 2 } else { 3 };
    let new = version == 3;
    let extended_l2 = new && chance.one_in(3);
    let bits = if extended_l2 { 14 + chance.below(8) } else { 9 + chance.below(13) };
    let data_file = (new && below.is_none() && chance.one_in(4))
        .then(|| format!("{}.data", qemu::path(&link.path)));
    Wanted {
        size: link.size,
        version,
        cluster_size: 1 << bits,
        refcount_bits: if new { 1 << chance.below(7) } else { 16 },
        lazy_refcounts: new && chance.one_in(4),
        extended_l2,
        compression: match new && chance.one_in(2) {
            true => Compression::Zstd,
            false => Compression::Zlib,
        },
        backing: below.map(|below| qemu::path(&below.path).to_owned()),
        backing_format: below.map(|below| if below.raw { "raw" } else { "qcow2" }.to_owned()),
        data_file_raw: data_file.is_some() && chance.one_in(2),
        data_file,
        encryption: None,
    }
}

fn note(link: &mut Link, wanted: &Wanted) {
    link.data = wanted.data_file.as_ref().map(PathBuf::from);
    link.data_raw = wanted.data_file_raw;
    link.cluster = wanted.cluster_size;
    link.version = wanted.version;
}

fn make_by_us(chance: &mut Chance, link: &mut Link, below: Option<&Link>) {
    let wanted = wanted(chance, link, below);
    note(link, &wanted);
    File::create_new(&link.path).unwrap();
    if let Some(data) = &link.data {
        File::create_new(data).unwrap().set_len(link.size).unwrap();
    }
    finish(create(&plain(&link.path, false), &wanted)).unwrap();
}

fn make_by_qemu(chance: &mut Chance, link: &mut Link, below: Option<&Link>) {
    let wanted = wanted(chance, link, below);
    note(link, &wanted);
    let on = |value: bool| if value { "on" } else { "off" };
    let mut options = format!(
        "compat={},cluster_size={}",
        if wanted.version == 2 { "0.10" } else { "1.1" },
        wanted.cluster_size
    );
    if wanted.version > 2 {
        options += &format!(
            ",refcount_bits={},lazy_refcounts={},extended_l2={},compression_type={}",
            wanted.refcount_bits,
            on(wanted.lazy_refcounts),
            on(wanted.extended_l2),
            wanted.compression.name()
        );
    }
    if let Some(name) = &wanted.data_file {
        options += &format!(",data_file={name},data_file_raw={}", on(wanted.data_file_raw));
    }
    if chance.one_in(8) && below.is_none() {
        options += ",preallocation=metadata";
    }
    let size = link.size.to_string();
    let mut arguments = vec!["create", "-q", "-f", "qcow2", "-o", &options];
    if let (Some(backing), Some(format)) = (&wanted.backing, &wanted.backing_format) {
        arguments.extend(["-b", backing, "-F", format]);
    }
    arguments.extend([qemu::path(&link.path), &size]);
    qemu::must(&arguments);
}
