//! A disk in memory with a guest that works on it, an operator, a clock and a supervisor's record.
//!
//! One thread; which of the woken tasks goes on next is drawn by a seeded chance, and files give turns
//! away before each call.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::disk::{Change, Disk, Operation};
use crate::job::{Control, Ended, Host, Job, JobState, Settings};
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::qcow2::check::Repair;
use crate::qcow2::create::{Wanted, create};
use crate::qcow2::journal::{Journal, Nothing, Remembered};
use crate::qcow2::{Files, Layer, Options, Qcow2};
use crate::request::Durability;
use crate::storage::memory::MemoryFile;
use crate::task::{Tasks, finish, yield_now};

pub const SIZE: u64 = 1 << 20;
pub const SECTOR: u64 = 512;

/// Sectors that one task of the guest has to itself before the next one's follow.
const STRIPE: u64 = 19;

/// Times that a guest asks for something that fails.
const TRIES: u32 = 3;

/// What a discarded range of a raw file reads as here.
pub const RUBBISH: u8 = 0xDB;

/// A seeded chance. Clones draw from the same.
#[derive(Debug, Clone)]
pub struct Chance(Rc<Cell<u64>>);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    pub fn below(&self, end: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        (x >> 8) % end
    }
}

/// A clock that stands still until nobody has anything else to do.
#[derive(Debug, Default)]
pub struct Hands {
    now: Cell<Duration>,
    timers: RefCell<Vec<(Duration, Waker)>>,
}

impl Clock for Hands {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn wake_at(&self, until: Duration, waker: Waker) {
        self.timers.borrow_mut().push((until, waker));
    }
}

impl Hands {
    /// Everybody looks up.
    pub fn wake_all(&self) {
        self.timers.take().into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Goes on to the next time for which somebody waits.
    pub fn advance(&self) -> bool {
        let timers = self.timers.take();
        let Some(next) = timers.iter().map(|(until, _)| *until).min() else {
            return false;
        };
        self.now.set(self.now.get().max(next));
        for (until, waker) in timers {
            if until <= next {
                waker.wake();
            } else {
                self.timers.borrow_mut().push((until, waker));
            }
        }
        true
    }
}

/// What a file is opened with.
#[derive(Debug, Clone)]
pub struct Link {
    pub file: MemoryFile,
    pub journal: Remembered,
    pub raw: bool,
}

/// The supervisor's record of a chain, the top first.
#[derive(Debug, Clone, Default)]
pub struct Record(pub Rc<RefCell<Vec<Link>>>);

impl Sector {
    /// Whether it may read as this: what it is, or, of one whose change was not answered, what it was.
    pub fn may_be(&self, byte: u8) -> bool {
        let unanswered =
            self.under_way == Some(byte) || self.under_way.is_some() && self.since.contains(&byte);
        byte == self.now || unanswered
    }
}

/// Every file there is, by its layer.
#[derive(Debug, Clone, Default)]
pub struct Registry(Rc<RefCell<Vec<Known>>>);

/// A layer and its file.
type Known = (Layer<MemoryFile>, Link);

impl Registry {
    pub fn add(&self, layer: &Layer<MemoryFile>, link: Link) {
        self.0.borrow_mut().push((layer.clone(), link));
    }

    fn link(&self, layer: &Layer<MemoryFile>) -> Link {
        let known = self.0.borrow();
        known.iter().find(|(other, _)| other.is(layer)).unwrap().1.clone()
    }
}

/// Writes changes down after a few turns.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub record: Record,
    pub registry: Registry,
    pub chance: Chance,
    pub switches: Rc<Cell<u64>>,
}

impl Supervisor {
    fn write_down(&self, change: &Change<MemoryFile>) {
        let links = &mut *self.record.0.borrow_mut();
        match change {
            Change::Push(layer) => links.insert(0, self.registry.link(layer)),
            Change::Drop { from, to } => drop(links.drain(from..to)),
            Change::Replace(layer) => {
                *links = layer.chain().map(|layer| self.registry.link(&layer)).collect();
            }
        }
    }
}

impl Host<MemoryFile> for Supervisor {
    async fn switch(&self, change: &Change<MemoryFile>) -> Outcome {
        for _ in 0..self.chance.below(4) {
            yield_now().await;
        }
        self.switches.set(self.switches.get() + 1);
        self.write_down(change);
        for _ in 0..self.chance.below(4) {
            yield_now().await;
        }
        Ok(())
    }
}

/// What a sector may read as.
#[derive(Debug, Clone, Default)]
pub struct Sector {
    pub now: u8,
    /// A change of it is not answered yet.
    pub under_way: Option<u8>,
    /// What else it has been, or was to be, since the last flush.
    pub since: Vec<u8>,
}

pub struct Rig {
    pub tasks: Tasks,
    pub clock: Rc<Hands>,
    pub chance: Chance,
    pub disk: Rc<Disk<MemoryFile>>,
    pub sectors: Rc<RefCell<Vec<Sector>>>,
    pub supervisor: Supervisor,
    /// Turns that a file gives away before a call, at most.
    pub turns: u32,
    /// Whether the guest may be told errors: it tries again, and gives up in the end.
    pub is_forgiving: bool,
    /// Errors that it was told.
    pub complaints: Rc<RefCell<Vec<Failure>>>,
}

/// What the sectors of a backing file are.
pub fn tag(sector: u64) -> u8 {
    (sector % 251) as u8 + 1
}

pub fn pattern(sectors: u64) -> Vec<u8> {
    (0..sectors).flat_map(|sector| [tag(sector); SECTOR as usize]).collect()
}

/// A fresh image over `backing`.
pub fn qcow2(cluster: u64, backing: bool, size: u64) -> Link {
    let made = MemoryFile::default();
    let wanted = Wanted {
        size,
        cluster_size: cluster,
        backing: backing.then(|| "below".to_owned()),
        backing_format: backing.then(|| "qcow2".to_owned()),
        ..Wanted::default()
    };
    finish(create(&made, &wanted)).unwrap();
    Link { file: MemoryFile::with(made.bytes()), journal: Remembered::default(), raw: false }
}

pub fn raw(bytes: Vec<u8>) -> Link {
    Link { file: MemoryFile::with(bytes), journal: Remembered::default(), raw: true }
}

pub fn open(link: &Link, backing: Option<Layer<MemoryFile>>) -> Layer<MemoryFile> {
    if link.raw {
        let size = link.file.bytes().len() as u64;
        return Layer::raw(link.file.clone(), size);
    }
    let files = Files { file: link.file.clone(), data: None, backing };
    let options = Options { chain_given: true, ..Options::WRITE };
    finish(Qcow2::open(files, Box::new(link.journal.clone()), options)).unwrap().into()
}

/// Opens a chain, the top first.
pub fn open_chain(links: &[Link], registry: &Registry) -> Layer<MemoryFile> {
    let mut below = None;
    for link in links.iter().rev() {
        let layer = open(link, below);
        registry.add(&layer, link.clone());
        below = Some(layer);
    }
    below.unwrap()
}

impl Rig {
    /// A disk over these files, the top first.
    pub fn new(links: Vec<Link>, seed: u64) -> Self {
        let chance = Chance::new(seed);
        let registry = Registry::default();
        let top = open_chain(&links, &registry);
        let clock = Rc::new(Hands::default());
        let disk = Rc::new(Disk::new(top, Rc::clone(&clock) as Rc<dyn Clock>));
        let record = Record(Rc::new(RefCell::new(links)));
        let switches = Rc::default();
        let supervisor = Supervisor { record, registry, chance: chance.clone(), switches };
        let bytes = read(&disk.top());
        let sector = |sector: &[u8]| Sector { now: sector[0], ..Sector::default() };
        let sectors = bytes.chunks(SECTOR as usize).map(sector).collect();
        let rig = Self {
            tasks: Tasks::default(),
            clock,
            chance,
            disk,
            sectors: Rc::new(RefCell::new(sectors)),
            supervisor,
            turns: 2,
            is_forgiving: false,
            complaints: Rc::default(),
        };
        for link in rig.supervisor.record.0.borrow().iter() {
            rig.interleave(link);
        }
        rig
    }

    /// A base with a pattern, of another format now and then, and `overlays` empty images over it.
    pub fn usual(overlays: usize, seed: u64) -> Self {
        let mut links = Vec::new();
        for number in 0..overlays {
            links.push(qcow2([4096, 65536, 512][(seed as usize + number) % 3], true, SIZE));
        }
        if seed.is_multiple_of(2) {
            links.push(raw(pattern(SIZE / SECTOR)));
        } else {
            let base = qcow2(65536, false, SIZE);
            let layer = open(&base, None);
            let half = pattern(SIZE / SECTOR / 2);
            finish(layer.write(0, Heap::copy_of(&half).into())).unwrap();
            finish(layer.close()).unwrap();
            links.push(Link { file: MemoryFile::with(base.file.bytes()), ..base });
        }
        Self::new(links, seed)
    }

    pub fn interleave(&self, link: &Link) {
        link.file.interleave(self.turns, self.chance.below(u64::MAX));
    }

    /// One step of somebody; `false`: nobody can go on.
    pub fn step(&mut self) -> bool {
        let chance = &self.chance;
        // Time passes for those who work as well.
        if chance.below(64) == 0 {
            self.clock.advance();
        }
        self.tasks.step_any(|count| chance.below(count as u64) as usize) || self.clock.advance()
    }

    /// Until every task is over.
    pub fn run(&mut self) {
        while self.tasks.running() > 0 {
            assert!(self.step(), "{} tasks wait for each other", self.tasks.running());
        }
    }

    /// `count` tasks of a guest that do `steps` things each.
    pub fn guest(&mut self, count: u64, steps: u64) {
        for number in 0..count {
            let worker = Worker {
                number,
                count,
                chance: self.chance.clone(),
                disk: Rc::clone(&self.disk),
                sectors: Rc::clone(&self.sectors),
                complaints: self.is_forgiving.then(|| Rc::clone(&self.complaints)),
            };
            self.tasks.spawn(async move {
                for _ in 0..steps {
                    worker.step().await;
                }
            });
        }
    }

    /// Runs a job to its end, alone with what else runs.
    pub fn job(&mut self, job: Job<MemoryFile>, settings: Settings) -> Rc<Control> {
        let clock = Rc::clone(&self.clock) as Rc<dyn Clock>;
        let control = Control::new(job.kind(), settings, clock);
        let (given, host) = (Rc::clone(&control), self.supervisor.clone());
        self.tasks.spawn(async move {
            let _told = job.run(&given, &host).await;
        });
        control
    }

    /// Completes a job once it is ready, and runs until all is over.
    pub fn complete(&mut self, control: &Rc<Control>) {
        let given = Rc::clone(control);
        self.tasks.spawn(async move { complete_when_ready(&given).await });
        self.run();
    }

    /// The disk reads as the guest left it, in its own eyes and in those of a successor.
    pub fn verify(&self, name: &str) {
        self.verify_bytes(&read(&self.disk.top()), name);
        finish(self.disk.top().close()).unwrap();
        let links = self.supervisor.record.0.borrow().clone();
        self.verify_bytes(&read(&open_read_only(&links)), &format!("{name}, opened again"));
        for link in &links {
            check(&link.file.bytes(), link.raw, name);
        }
    }

    pub fn verify_bytes(&self, bytes: &[u8], name: &str) {
        let sectors = self.sectors.borrow();
        for (index, (bytes, sector)) in bytes.chunks(SECTOR as usize).zip(&*sectors).enumerate() {
            let whole = bytes.iter().all(|byte| *byte == bytes[0]);
            let right = whole && sector.may_be(bytes[0]);
            assert!(
                right,
                "{name}: sector {index} reads {}, torn: {}: {sector:?}",
                bytes[0], !whole
            );
        }
    }
}

/// Fresh files of a chain that is only read, without its journals.
pub fn open_read_only(links: &[Link]) -> Layer<MemoryFile> {
    let mut below = None;
    for link in links.iter().rev() {
        let file = MemoryFile::with(link.file.bytes());
        below = Some(match link.raw {
            true => Layer::raw(file.clone(), file.bytes().len() as u64),
            false => {
                let files = Files { file, data: None, backing: below };
                let options = Options { chain_given: true, ..Options::READ };
                let journal: Box<dyn Journal> = Box::new(Nothing);
                finish(Qcow2::open(files, journal, options)).unwrap().into()
            }
        });
    }
    below.unwrap()
}

/// No errors in an image; what is leaked after a crash is none.
pub fn check(bytes: &[u8], raw: bool, name: &str) {
    if !raw {
        let files = Files { file: MemoryFile::with(bytes.to_vec()), data: None, backing: None };
        let options = Options { alone: true, ..Options::READ };
        let image = finish(Qcow2::open(files, Box::new(Nothing), options)).unwrap();
        let report = finish(image.check(Repair::Nothing)).unwrap();
        assert!(report.corruptions == 0, "{name}: {:#?}", report.findings);
    }
}

pub fn read(layer: &Layer<MemoryFile>) -> Vec<u8> {
    let heap = Heap::zeroes(layer.size() as usize);
    finish(layer.read(0, Memory::from(heap.clone()))).unwrap();
    heap.to_vec()
}

pub async fn complete_when_ready(control: &Control) {
    loop {
        match control.status().state {
            JobState::Ready => drop(control.complete()),
            JobState::Concluded => return,
            _ => {}
        }
        yield_now().await;
    }
}

/// Runs two futures of one task until both are over.
pub async fn both<T>(one: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut output, mut over) = (None, false);
    std::future::poll_fn(|context| {
        if output.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(context)
        {
            output = Some(done);
        }
        over = over || Pin::as_mut(&mut other).poll(context).is_ready();
        match (over, output.take()) {
            (true, Some(done)) => Poll::Ready(done),
            (_, done) => {
                output = done;
                Poll::Pending
            }
        }
    })
    .await
}

/// One task of the guest, with stripes of the disk to itself.
struct Worker {
    number: u64,
    count: u64,
    chance: Chance,
    disk: Rc<Disk<MemoryFile>>,
    sectors: Rc<RefCell<Vec<Sector>>>,
    complaints: Option<Rc<RefCell<Vec<Failure>>>>,
}

impl Worker {
    fn is_mine(&self, sector: u64) -> bool {
        sector / STRIPE % self.count == self.number
    }

    async fn step(&self) {
        let all = self.sectors.borrow().len() as u64;
        let first = self.chance.below(all);
        let first = (first..all).find(|sector| self.is_mine(*sector)).unwrap_or(0);
        if !self.is_mine(first) {
            return;
        }
        let longest = 1 + self.chance.below(STRIPE);
        let end = (first..all.min(first + longest)).find(|sector| !self.is_mine(*sector));
        let end = end.unwrap_or(all.min(first + longest));
        let (at, len) = (first * SECTOR, (end - first) * SECTOR);
        match self.chance.below(16) {
            0 => self.flush().await,
            1 => {
                let unmap = self.chance.below(2) == 0;
                self.change(first..end, 0, Operation::Zero { at, len, unmap }).await;
            }
            2 => {
                self.change(first..end, 0, Operation::Discard { at, len }).await;
                self.look(first..end, true).await;
            }
            3 | 4 => self.look(first..end, false).await,
            _ => {
                let tag = self.chance.below(255) as u8 + 1;
                let from = Heap::copy_of(&vec![tag; len as usize]).into();
                let write = Operation::Write { at, from, durability: Durability::Visible };
                self.change(first..end, tag, write).await;
            }
        }
    }

    /// Whether it was done.
    async fn perform(&self, operation: &Operation) -> bool {
        for _ in 0..TRIES {
            let outcome = self.disk.perform(operation, &AtomicBool::new(false)).await;
            let (Err(failure), Some(complaints)) = (outcome, &self.complaints) else {
                assert_eq!(outcome, Ok(()), "{:?}", operation.range());
                return true;
            };
            complaints.borrow_mut().push(failure);
        }
        false
    }

    async fn change(&self, range: std::ops::Range<u64>, tag: u8, operation: Operation) {
        let each = |change: &dyn Fn(&mut Sector)| {
            let sectors = &mut *self.sectors.borrow_mut();
            sectors[range.start as usize..range.end as usize].iter_mut().for_each(change);
        };
        each(&|sector| {
            sector.under_way = Some(tag);
            sector.since.push(sector.now);
            sector.since.push(tag);
            if matches!(operation, Operation::Discard { .. }) {
                sector.since.push(RUBBISH);
            }
        });
        // What a discard has left is known once it was read.
        let is_done = self.perform(&operation).await;
        if is_done && !matches!(operation, Operation::Discard { .. }) {
            each(&|sector| {
                sector.under_way = None;
                sector.now = tag;
            });
        }
    }

    async fn flush(&self) {
        if !self.perform(&Operation::Flush).await {
            return;
        }
        let sectors = &mut *self.sectors.borrow_mut();
        for (index, sector) in sectors.iter_mut().enumerate() {
            if self.is_mine(index as u64) {
                sector.since.clear();
            }
        }
    }

    /// Reads; sectors that were `discarded` may be zeroes, rubbish or what they were.
    async fn look(&self, range: std::ops::Range<u64>, discarded: bool) {
        let heap = Heap::zeroes(((range.end - range.start) * SECTOR) as usize);
        let at = range.start * SECTOR;
        if !self.perform(&Operation::Read { at, into: heap.clone().into() }).await {
            return;
        }
        let bytes = heap.to_vec();
        let sectors = &mut *self.sectors.borrow_mut();
        for (index, bytes) in range.zip(bytes.chunks(SECTOR as usize)) {
            let sector = &mut sectors[index as usize];
            let read = bytes[0];
            assert!(bytes.iter().all(|byte| *byte == read), "sector {index} is torn");
            let right = sector.may_be(read) || (discarded && [0, RUBBISH].contains(&read));
            assert!(right, "sector {index} reads {read} and is {}", sector.now);
            sector.now = read;
            sector.under_way = None;
        }
    }
}

pub fn ended(control: &Control) -> Result<(), Ended> {
    let status = control.status();
    assert_eq!(status.state, JobState::Concluded);
    match (status.cancelled, status.failure) {
        (true, _) => Err(Ended::Cancelled),
        (false, Some(failure)) => Err(Ended::Failed(failure)),
        (false, None) => Ok(()),
    }
}
