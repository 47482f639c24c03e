//! An image in memory, what its disk must read as, and random work.

use std::cell::RefCell;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use super::*;
use crate::memory::Memory;
use crate::qcow2::check::Repair;
use crate::qcow2::create::{Wanted, create};
use crate::storage::memory::MemoryFile;
use crate::task::Tasks;

pub const SIZE: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub struct Kind {
    pub cluster: u64,
    pub refcount_bits: u32,
    pub extended: bool,
    pub version: u32,
    pub backing: bool,
}

const PLAIN: Kind =
    Kind { cluster: 512, refcount_bits: 16, extended: false, version: 3, backing: false };

pub const KINDS: [Kind; 6] = [
    PLAIN,
    Kind { cluster: 4096, refcount_bits: 1, ..PLAIN },
    Kind { cluster: 65536, backing: true, ..PLAIN },
    Kind { cluster: 16384, extended: true, backing: true, refcount_bits: 64, ..PLAIN },
    Kind { cluster: 4096, version: 2, backing: true, ..PLAIN },
    Kind { cluster: 1024, version: 2, ..PLAIN },
];

/// Random work.
pub struct Steps(u64);

#[derive(Debug, Clone, Copy)]
pub enum Step {
    Write { at: u64, len: u64, byte: u8 },
    Zero { at: u64, len: u64, unmap: bool },
    Discard { at: u64, len: u64 },
    Flush,
}

impl Steps {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }

    pub fn next(&mut self, size: u64) -> Step {
        let at = self.below(size / 512) * 512;
        let longest = [512, 8192, 150_000][self.below(3) as usize];
        let len = ((self.below(longest) / 512 + 1) * 512).min(size - at);
        let byte = self.below(255) as u8 + 1;
        match self.below(12) {
            0 => Step::Zero { at, len, unmap: false },
            1 => Step::Zero { at, len, unmap: true },
            2 => Step::Discard { at, len },
            3 => Step::Flush,
            _ => Step::Write { at, len, byte },
        }
    }
}

impl Step {
    fn range(self) -> Range<u64> {
        match self {
            Self::Write { at, len, .. }
            | Self::Zero { at, len, .. }
            | Self::Discard { at, len } => at..at + len,
            Self::Flush => 0..0,
        }
    }

    pub async fn run(self, image: &Qcow2<MemoryFile>) -> Outcome {
        match self {
            Self::Write { at, len, byte } => {
                image.write(at, Heap::copy_of(&vec![byte; len as usize]).into()).await
            }
            Self::Zero { at, len, unmap } => image.zero(at, len, unmap).await,
            Self::Discard { at, len } => image.discard(at, len).await,
            Self::Flush => image.flush().await,
        }
    }
}

pub struct Rig {
    pub file: MemoryFile,
    pub journal: Remembered,
    pub model: Vec<u8>,
    pub options: Options,
    /// What the disk was, by the names of its snapshots.
    pub snapshots: Vec<(String, Vec<u8>)>,
    /// Sectors that were written, zeroed or discarded.
    pub touched: Vec<bool>,
    taken: u64,
    kind: Kind,
    image: Option<Rc<Qcow2<MemoryFile>>>,
}

fn backing(kind: &Kind) -> Option<Layer<MemoryFile>> {
    kind.backing.then(|| {
        // Shorter than the disk.
        let bytes = backing_bytes();
        Layer::raw(MemoryFile::with(bytes.clone()), bytes.len() as u64)
    })
}

fn backing_bytes() -> Vec<u8> {
    (0..700 << 10).map(|n| (n / 512 % 253) as u8 + 1).collect()
}

impl Rig {
    pub fn new(kind: &Kind, _seed: u64) -> Self {
        Self::sized(kind, SIZE)
    }

    pub fn sized(kind: &Kind, size: u64) -> Self {
        let made = MemoryFile::default();
        let wanted = Wanted {
            size,
            version: kind.version,
            cluster_size: kind.cluster,
            refcount_bits: kind.refcount_bits,
            extended_l2: kind.extended,
            backing: kind.backing.then(|| "base".to_owned()),
            backing_format: kind.backing.then(|| "raw".to_owned()),
            ..Wanted::default()
        };
        finish(create(&made, &wanted)).unwrap();
        let file = MemoryFile::with(made.bytes());
        let mut model = if kind.backing { backing_bytes() } else { Vec::new() };
        model.resize(size as usize, 0);
        let journal = Remembered::default();
        let mut rig = Self {
            file,
            journal,
            model,
            options: Options::WRITE,
            snapshots: Vec::new(),
            touched: vec![false; size as usize / 512],
            taken: 0,
            kind: kind.clone(),
            image: None,
        };
        rig.reopen();
        rig
    }

    pub fn image(&self) -> Rc<Qcow2<MemoryFile>> {
        Rc::clone(self.image.as_ref().unwrap())
    }

    /// Opens the image as a successor would.
    pub fn reopen(&mut self) {
        self.image = None;
        let journal = Box::new(self.journal.clone());
        let image = open(self.file.clone(), &self.kind, journal, self.options);
        self.image = Some(Rc::new(image.unwrap()));
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        finish(self.image().write(at, Heap::copy_of(bytes).into())).unwrap();
        self.model[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    pub fn apply<'a>(
        &'a self,
        operation: impl FnOnce(&'a Qcow2<MemoryFile>) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>,
    ) {
        finish(operation(self.image.as_ref().unwrap())).unwrap();
    }

    /// Runs `count` random steps at once. Those that would touch the same bytes are left out: their
    /// order is nobody's promise.
    pub fn run_together(&mut self, steps: &mut Steps, count: usize) {
        let mut chosen: Vec<Step> = Vec::new();
        for _ in 0..count {
            let step = steps.next(self.model.len() as u64);
            let range = step.range();
            let apart = |other: &Step| {
                let other = other.range();
                other.end <= range.start || range.end <= other.start
            };
            if chosen.iter().all(apart) {
                chosen.push(step);
            }
        }
        let mut tasks = Tasks::default();
        let failures = Rc::new(RefCell::new(Vec::new()));
        for step in &chosen {
            let (step, image, failures) = (*step, self.image(), Rc::clone(&failures));
            tasks.spawn(async move {
                if let Err(failure) = step.run(&image).await {
                    failures.borrow_mut().push((step, failure));
                }
            });
        }
        tasks.run();
        assert_eq!(tasks.running(), 0, "{chosen:?}");
        let damage = self.image().damage();
        assert!(failures.borrow().is_empty(), "{failures:?}, {damage:?}");
        for step in chosen {
            self.remember(step);
        }
    }

    /// Begins `count` writes and a flush and is killed somewhere on the way; the successor finds each
    /// sector of a write that was not answered old or new.
    pub fn die_writing(&mut self, steps: &mut Steps, count: usize, name: &str) {
        let mut tasks = Tasks::default();
        let answered = Rc::new(RefCell::new(Vec::new()));
        let mut begun = Vec::new();
        for number in 0..count {
            let Step::Write { at, len, byte } = steps.next(self.model.len() as u64) else {
                continue;
            };
            // Each in a part of the disk of its own.
            let part = self.model.len() as u64 / count as u64 / 512 * 512;
            let at = number as u64 * part + at % part;
            let len = len.min(part - at % part);
            let step = Step::Write { at, len, byte };
            begun.push(step);
            let (image, answered) = (self.image(), Rc::clone(&answered));
            tasks.spawn(async move {
                step.run(&image).await.unwrap();
                answered.borrow_mut().push(step);
            });
        }
        let image = self.image();
        tasks.spawn(async move { image.flush().await.unwrap() });
        for _ in 0..steps.below(60) {
            tasks.step();
        }
        let answered = answered.take();
        drop(tasks);
        self.reopen();
        for step in begun {
            let Step::Write { at, len, byte } = step else {
                continue;
            };
            let must = answered.iter().any(|other| other.range() == step.range());
            let now = read(&self.image(), at, len);
            let old = &mut self.model[at as usize..(at + len) as usize];
            for (old, now) in old.chunks_mut(512).zip(now.chunks(512)) {
                let new = now.iter().all(|now| *now == byte);
                assert!(new || (!must && old == now), "{name}: {step:?}, answered: {must}");
                old.copy_from_slice(now);
            }
        }
        self.verify(name);
    }

    pub fn remember(&mut self, step: Step) {
        let range = step.range();
        self.touched[range.start as usize / 512..range.end as usize / 512].fill(true);
        let range = range.start as usize..range.end as usize;
        match step {
            Step::Write { byte, .. } => self.model[range].fill(byte),
            Step::Zero { .. } => self.model[range].fill(0),
            Step::Discard { at, len } => {
                let now = read(&self.image(), at, len);
                for (place, byte) in self.model[range].iter_mut().zip(now) {
                    assert!(byte == 0 || byte == *place, "discarded bytes became others");
                    *place = byte;
                }
            }
            Step::Flush => {}
        }
    }

    /// Takes a snapshot, goes back to one, or removes one; `false`: it failed, and changed nothing.
    pub fn snapshot_step(&mut self, steps: &mut Steps) -> bool {
        let image = self.image();
        let chosen = steps.below(self.snapshots.len().max(1) as u64) as usize;
        let there = self.snapshots.get(chosen).cloned();
        match (steps.below(4), there) {
            (2, Some((name, model))) => {
                let done = finish(image.snapshot_apply(&name)).is_ok();
                if done {
                    self.model = model;
                }
                done
            }
            (3, Some((name, _))) => {
                let done = finish(image.snapshot_delete(&name)).is_ok();
                if done {
                    self.snapshots.remove(chosen);
                }
                done
            }
            _ => {
                self.taken += 1;
                let name = format!("s{}", self.taken);
                let done = finish(image.snapshot_create(&name, 1, 2));
                if done.is_ok() {
                    self.snapshots.push((name, self.model.clone()));
                }
                let narrow = self.kind.refcount_bits == 1;
                matches!(done, Ok(()) | Err(SnapshotError::Counts(1)) if done.is_ok() || narrow)
            }
        }
    }

    /// Another size, or something about a bitmap that records.
    pub fn whole_step(&mut self, steps: &mut Steps) {
        let image = self.image();
        let there = image.bitmap("b").is_ok();
        match steps.below(6) {
            0..3 => {
                let size = (steps.below(3 << 20) / 512 + 64) * 512;
                // Versions without zeroes cannot hide what lies below a disk that grows.
                if self.kind.backing && self.kind.version < 3 && size > image.size() {
                    return;
                }
                finish(image.resize(size)).unwrap();
                self.model.resize(size as usize, 0);
                self.touched.resize(size as usize / 512, true);
            }
            _ if self.kind.version < 3 => finish(image.flush()).unwrap(),
            _ if !there => finish(image.bitmap_add("b", 4096, true)).unwrap(),
            3 => finish(image.bitmap_remove("b")).unwrap(),
            4 => finish(image.bitmap_clear("b")).unwrap(),
            _ => finish(image.bitmap_enable("b", steps.below(2) == 0)).unwrap(),
        }
    }

    /// Every snapshot of these bytes of the file reads as it was taken.
    pub fn verify_snapshots(&self, bytes: &[u8], name: &str) {
        let open = || {
            let file = MemoryFile::with(bytes.to_vec());
            open(file, &self.kind, Box::new(journal::Nothing), Options::WRITE).unwrap()
        };
        for snapshot in open().snapshots() {
            let Some((_, model)) = self.snapshots.iter().find(|(name, _)| *name == snapshot.name)
            else {
                continue;
            };
            let image = open();
            finish(image.snapshot_apply(&snapshot.name)).unwrap();
            let now = read(&image, 0, model.len() as u64);
            assert!(now == *model, "{name}: snapshot {} is not what was taken", snapshot.name);
            check(image.file().bytes(), &self.kind, u64::MAX, name);
        }
    }

    pub fn verify(&self, name: &str) {
        let now = read(&self.image(), 0, self.model.len() as u64);
        let first = now.iter().zip(&self.model).position(|(now, model)| now != model);
        assert_eq!(first, None, "{name}: other bytes at, {:?}", self.image().damage());
    }

    pub fn verify_outside(&self, range: Range<usize>) {
        let now = read(&self.image(), 0, self.model.len() as u64);
        assert!(now[..range.start] == self.model[..range.start]);
        assert!(now[range.end..] == self.model[range.end..]);
    }

    pub fn close_and_check(&mut self, name: &str) {
        finish(self.image().close()).unwrap();
        check(self.file.bytes(), &self.kind, 0, name);
    }

    /// The disk as a reader of these bytes of the file sees it.
    pub fn disk_of(&self, bytes: Vec<u8>) -> Vec<u8> {
        let image =
            open(MemoryFile::with(bytes), &self.kind, Box::new(journal::Nothing), Options::READ);
        let image = image.unwrap();
        read(&image, 0, image.size())
    }

    pub fn open_bytes(&self, bytes: Vec<u8>) -> Qcow2<MemoryFile> {
        let nothing = Box::new(journal::Nothing);
        open(MemoryFile::with(bytes), &self.kind, nothing, Options::READ).unwrap()
    }

    pub fn open_for_writing(&self, bytes: Vec<u8>) -> Qcow2<MemoryFile> {
        let nothing = Box::new(journal::Nothing);
        open(MemoryFile::with(bytes), &self.kind, nothing, Options::WRITE).unwrap()
    }

    pub fn check_bytes(&self, bytes: Vec<u8>, name: &str) {
        check(bytes, &self.kind, u64::MAX, name);
    }
}

fn open(
    file: MemoryFile,
    kind: &Kind,
    journal: Box<dyn Journal>,
    options: Options,
) -> Result<Qcow2<MemoryFile>, OpenError> {
    let files = Files { file, data: None, backing: backing(kind) };
    finish(Qcow2::open(files, journal, options))
}

/// No error, and at most `leaks` leaks.
fn check(bytes: Vec<u8>, kind: &Kind, leaks: u64, name: &str) {
    let image = open(MemoryFile::with(bytes), kind, Box::new(journal::Nothing), Options::READ);
    let report = finish(image.unwrap().check(Repair::Nothing)).unwrap();
    let sound = report.corruptions == 0 && report.leaks <= leaks;
    assert!(sound, "{name}: {:#?}", report.findings);
}

pub fn read(image: &Qcow2<MemoryFile>, at: u64, len: u64) -> Vec<u8> {
    let heap = Heap::zeroes(len as usize);
    finish(image.read(at, Memory::from(heap.clone()))).unwrap();
    heap.to_vec()
}
