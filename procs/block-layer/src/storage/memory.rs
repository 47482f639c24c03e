//! A file in memory that remembers what was done to it, for tests.
//!
//! From the log every state can be made in which a crash of the host may leave the file
//! ([`MemoryFile::crashed`]): everything that was over when the last completed `sync` began is there, and
//! of what came later any part, in any order, torn at sectors.
//!
//! A turn can be given away before each call, so that several operations on one file interleave; and calls
//! can be made to fail, from one on ([`MemoryFile::fail_after`]) or a single one ([`MemoryFile::fail_once`]).

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Storage;
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};

/// What disks write at once.
const SECTOR: usize = 512;

/// Bytes that such a file has at most.
const LONGEST: u64 = 48 << 20;

/// One thing that was done.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Bytes were written.
    Write {
        /// Where.
        at: u64,
        /// What.
        bytes: Rc<[u8]>,
    },
    /// The file became that long, or longer than that it was before.
    Grow(u64),
    /// The file became that short.
    Cut(u64),
    /// The first `covered` entries are durable: what was done when it began.
    Sync {
        /// How many.
        covered: usize,
    },
    /// The test wants to find this place again.
    Mark(u64),
}

/// What is asked of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Bytes.
    Read,
    /// To take bytes.
    Write,
    /// To make zeroes.
    Zero,
    /// To give room back.
    Discard,
    /// To make durable.
    Sync,
    /// How long it is.
    Size,
    /// To become longer or shorter.
    Resize,
}

impl Call {
    /// Each of them.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Write, Self::Zero, Self::Discard, Self::Sync, Self::Size, Self::Resize];
}

/// A call that is to fail, once.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: Call,
    /// Calls of its kind that come before it.
    after: u64,
    failure: Failure,
}

/// The file. Clones are the same file.
#[derive(Debug, Clone, Default)]
pub struct MemoryFile(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: RefCell<Vec<u8>>,
    log: RefCell<Vec<Entry>>,
    start: RefCell<Vec<u8>>,
    yields: Cell<u32>,
    chance: Cell<u64>,
    /// Calls that still succeed; `None`: all of them.
    budget: Cell<Option<u64>>,
    failure: Cell<Option<Failure>>,
    fault: Cell<Option<Fault>>,
    /// A write that is not whole blocks of so many bytes is refused; 0: none is.
    block: Cell<u64>,
}

impl MemoryFile {
    /// A file with these bytes.
    pub fn with(bytes: Vec<u8>) -> Self {
        let file = Self::default();
        *file.0.start.borrow_mut() = bytes.clone();
        *file.0.bytes.borrow_mut() = bytes;
        file
    }

    /// A copy of its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.bytes.borrow().clone()
    }

    /// Lets others run up to `most` times before each call, by a chance that begins at `seed`.
    pub fn interleave(&self, most: u32, seed: u64) {
        self.0.yields.set(most);
        self.0.chance.set(seed | 1);
    }

    /// Lets `calls` more calls succeed; those after them fail so. One that fails changes nothing. To read needs no
    /// space.
    pub fn fail_after(&self, calls: u64, failure: Failure) {
        self.0.budget.set(Some(calls));
        self.0.failure.set(Some(failure));
    }

    /// All calls succeed again.
    pub fn heal(&self) {
        self.0.budget.set(None);
        self.0.fault.set(None);
    }

    /// Lets one call of a kind fail once, after `after` that succeed.
    pub fn fail_once(&self, call: Call, after: u64, failure: Failure) {
        self.0.fault.set(Some(Fault { call, after, failure }));
    }

    /// Whether the call that was to fail once is still to come.
    pub fn is_spared(&self) -> bool {
        self.0.fault.get().is_some()
    }

    /// From now on it takes whole blocks only, as a disk does that is written directly.
    pub fn take_blocks(&self, bytes: u64) {
        self.0.block.set(bytes);
    }

    /// Puts a mark into the log.
    pub fn mark(&self, number: u64) {
        self.0.log.borrow_mut().push(Entry::Mark(number));
    }

    /// Everything that was done.
    pub fn log(&self) -> Vec<Entry> {
        self.0.log.borrow().clone()
    }

    /// The file after a crash when the first `entries` of the log had been issued: `keeps` says of each
    /// sector written after the last sync whether it had reached the device.
    pub fn crashed(&self, entries: usize, mut keeps: impl FnMut() -> bool) -> Vec<u8> {
        let log = self.0.log.borrow();
        let issued = &log[..entries.min(log.len())];
        let covered = issued.iter().filter_map(|entry| match entry {
            Entry::Sync { covered } => Some(*covered),
            _ => None,
        });
        let durable = covered.max().unwrap_or(0);
        let mut bytes = self.0.start.borrow().clone();
        for (index, entry) in issued.iter().enumerate() {
            let mut reached = || index < durable || keeps();
            match entry {
                Entry::Write { at, bytes: written } => {
                    for (sector, piece) in written.chunks(SECTOR).enumerate() {
                        if reached() {
                            put(&mut bytes, *at as usize + sector * SECTOR, piece);
                        }
                    }
                }
                Entry::Grow(end) if reached() => put(&mut bytes, *end as usize, &[]),
                Entry::Cut(end) if reached() => bytes.truncate(*end as usize),
                _ => {}
            }
        }
        bytes
    }

    fn allowed(&self, call: Call) -> Outcome {
        if let Some(fault) = self.0.fault.get().filter(|fault| fault.call == call) {
            self.0.fault.set(match fault.after {
                0 => None,
                after => Some(Fault { after: after - 1, ..fault }),
            });
            if fault.after == 0 {
                return Err(fault.failure);
            }
        }
        let spared = call == Call::Read && self.0.failure.get() == Some(Failure::NO_SPACE);
        match self.0.budget.get() {
            None => Ok(()),
            Some(_) if spared => Ok(()),
            Some(0) => Err(self.0.failure.get().unwrap_or(Failure::IO)),
            Some(left) => {
                self.0.budget.set(Some(left - 1));
                Ok(())
            }
        }
    }

    async fn turn(&self, call: Call) -> Outcome {
        let most = self.0.yields.get();
        if most > 0 {
            let mut chance = self.0.chance.get();
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            self.0.chance.set(chance);
            for _ in 0..chance % u64::from(most + 1) {
                Turn(false).await;
            }
        }
        self.allowed(call)
    }

    fn write_bytes(&self, at: u64, from: &[u8]) {
        put(&mut self.0.bytes.borrow_mut(), at as usize, from);
        let bytes = from.into();
        self.0.log.borrow_mut().push(Entry::Write { at, bytes });
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, from: &[u8]) {
    let end = at + from.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(from);
}

/// Gives a turn away once.
struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Storage for MemoryFile {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        self.turn(Call::Read).await?;
        let bytes = self.0.bytes.borrow();
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let there = (bytes.len() - from).min(into.len() as usize);
        into.zero()?;
        into.copy_from(&bytes[from..from + there])
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.turn(Call::Write).await?;
        let heap = Heap::zeroes(from.len() as usize);
        from.copy_into(&heap.clone().into())?;
        if at + from.len() > LONGEST {
            return Err(Failure::TOO_LARGE);
        }
        let block = self.0.block.get();
        if block > 0 && !(at.is_multiple_of(block) && from.len().is_multiple_of(block)) {
            return Err(Failure::INVALID);
        }
        heap.with(|bytes| self.write_bytes(at, bytes));
        Ok(())
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        self.turn(Call::Zero).await?;
        if at + len > LONGEST {
            return Err(Failure::TOO_LARGE);
        }
        self.write_bytes(at, &vec![0; len as usize]);
        Ok(())
    }

    /// Fills the range with rubbish, so that whoever still reads it is found out.
    async fn discard(&self, at: u64, len: u64) -> Outcome {
        self.turn(Call::Discard).await?;
        let end = (at + len).min(self.0.bytes.borrow().len() as u64);
        if at < end {
            self.write_bytes(at, &vec![0xDB; (end - at) as usize]);
        }
        Ok(())
    }

    async fn sync(&self) -> Outcome {
        let covered = self.0.log.borrow().len();
        self.turn(Call::Sync).await?;
        self.0.log.borrow_mut().push(Entry::Sync { covered });
        Ok(())
    }

    fn wants_room(&self) -> bool {
        true
    }

    async fn make_room(&self, at: u64, len: u64) -> Outcome {
        self.turn(Call::Resize).await?;
        if at + len > LONGEST {
            return Err(Failure::TOO_LARGE);
        }
        put(&mut self.0.bytes.borrow_mut(), (at + len) as usize, &[]);
        self.0.log.borrow_mut().push(Entry::Grow(at + len));
        Ok(())
    }

    async fn cut(&self, end: u64) -> Outcome {
        self.turn(Call::Resize).await?;
        self.0.bytes.borrow_mut().truncate(end as usize);
        self.0.log.borrow_mut().push(Entry::Cut(end));
        Ok(())
    }

    fn size(&self) -> Result<u64, Failure> {
        self.allowed(Call::Size)?;
        Ok(self.0.bytes.borrow().len() as u64)
    }

    fn grows(&self) -> bool {
        true
    }
}
