//! One queue's driver: writes, reads and flushes until it is told to stop, then reads everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_harness::frontend::{Completion, Layout, Queue, Request, SECTOR, Slot};

use crate::ledger::{Fault, Ledger};
use crate::stamp::BLOCK;

/// How long nothing may be completed. A restart takes milliseconds; a throttled device drains within
/// seconds.
const PATIENCE: Duration = Duration::from_secs(120);

const SECTORS: u64 = BLOCK as u64 / SECTOR;

/// What the drivers of a scene share with its killer.
#[derive(Debug, Default)]
pub struct Shared {
    /// Set to end the load.
    pub stop: AtomicBool,
    /// Whether a request may fail: it is tried again then.
    pub forgiving: AtomicBool,
    /// Requests that failed.
    pub errors: AtomicU64,
    /// Requests completed by all drivers.
    pub completed: AtomicU64,
    /// Longest time in microseconds in which a driver with requests in flight saw no completion,
    /// since it was last taken.
    pub gap: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Write,
    Read,
    Flush,
}

/// A driver.
#[derive(Debug)]
pub struct Driver {
    queue: Queue,
    ledger: Ledger,
    shared: Arc<Shared>,
    /// What each slot is out for.
    errands: Vec<Option<(Errand, usize)>>,
    /// Blocks with nothing in flight.
    idle: Vec<usize>,
    random: u64,
    last: Instant,
}

impl Driver {
    /// A driver with `depth` requests in flight on the blocks of `ledger`, which are more.
    pub fn new(queue: Queue, ledger: Ledger, depth: u16, shared: Arc<Shared>, seed: u64) -> Self {
        let idle = (0..ledger.len()).collect();
        let errands = vec![None; usize::from(depth)];
        Self { queue, ledger, shared, errands, idle, random: seed | 1, last: Instant::now() }
    }

    /// Drives until the end; its book afterwards. All blocks were read back and found right.
    pub fn run(mut self) -> Result<Ledger, Fault> {
        while usize::from(self.queue.outstanding()) < self.errands.len() {
            self.fresh()?;
        }
        self.queue.kick();
        self.last = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.turn(true)?;
        }
        while self.queue.outstanding() > 0 {
            self.turn(false)?;
        }
        self.read_everything()?;
        Ok(self.ledger)
    }

    /// Waits for completions and, while `load` is wanted, answers each by a new request.
    fn turn(&mut self, load: bool) -> Result<(), Fault> {
        let mut next =
            self.queue.wait(PATIENCE).map_err(|error| Fault::Queue(error.to_string()))?;
        if next.is_none() {
            return Err(Fault::Silent(self.queue.outstanding()));
        }
        self.note_gap();
        while let Some(done) = next {
            if self.tries_again(done)? {
                next = self.queue.poll().map_err(|error| Fault::Queue(error.to_string()))?;
                continue;
            }
            let place = self.settle(done)?;
            self.shared.completed.fetch_add(1, Ordering::Relaxed);
            if load {
                self.follow(place)?;
            }
            next = self.queue.poll().map_err(|error| Fault::Queue(error.to_string()))?;
        }
        self.queue.kick();
        Ok(())
    }

    fn note_gap(&mut self) {
        let now = Instant::now();
        let gap = (now - self.last).as_micros() as u64;
        self.last = now;
        self.shared.gap.fetch_max(gap, Ordering::Relaxed);
    }

    /// A request that failed and may is made once more. A flush is not: it fails until somebody else serves
    /// the disk.
    fn tries_again(&mut self, done: Completion) -> Result<bool, Fault> {
        if done.is_ok() || !self.shared.forgiving.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let errand = self.errands.get_mut(usize::from(done.slot.0)).and_then(Option::take);
        let Some((errand, place)) = errand else {
            return Err(Fault::Queue(format!("{:?} was completed without need", done.slot)));
        };
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        let (errand, place) = match (errand, self.idle.pop()) {
            (Errand::Flush, Some(place)) => (Errand::Read, place),
            (errand, rests) => {
                self.idle.extend(rests);
                (errand, place)
            }
        };
        self.submit(errand, place)?;
        Ok(true)
    }

    /// Judges a completion; the block it was for, and whether it was a write.
    fn settle(&mut self, done: Completion) -> Result<Option<(usize, Errand)>, Fault> {
        let errand = self.errands.get_mut(usize::from(done.slot.0)).and_then(Option::take);
        let Some((errand, place)) = errand else {
            return Err(Fault::Queue(format!("{:?} was completed without need", done.slot)));
        };
        if !done.is_ok() {
            let (number, status) =
                (self.ledger.number(place), format!("{errand:?}: {:?}", done.status));
            return Err(Fault::Error { number, status });
        }
        match errand {
            Errand::Write => self.ledger.acknowledge(place),
            Errand::Read => self.judge(done.slot, place)?,
            Errand::Flush => return Ok(None),
        }
        Ok(Some((place, errand)))
    }

    fn judge(&self, slot: Slot, place: usize) -> Result<(), Fault> {
        let mut block = [0; BLOCK];
        let copied = self.queue.read_data(slot, &mut block);
        copied.map_err(|error| Fault::Queue(error.to_string()))?;
        self.ledger.judge(place, &block)
    }

    /// After a write half of the blocks are overwritten at once, a quarter are read, the others rest.
    fn follow(&mut self, done: Option<(usize, Errand)>) -> Result<(), Fault> {
        let Some((place, errand)) = done else {
            return self.fresh();
        };
        match (errand, self.draw() % 4) {
            (Errand::Write, 0 | 1) => self.submit(Errand::Write, place),
            (Errand::Write, 2) => self.submit(Errand::Read, place),
            _ => {
                self.idle.push(place);
                self.fresh()
            }
        }
    }

    /// A request for a block that rests; now and then a flush.
    fn fresh(&mut self) -> Result<(), Fault> {
        if self.draw().is_multiple_of(256) {
            return self.submit(Errand::Flush, 0);
        }
        let place = (self.draw() % self.idle.len() as u64) as usize;
        let place = self.idle.swap_remove(place);
        let errand = if self.draw().is_multiple_of(4) { Errand::Read } else { Errand::Write };
        self.submit(errand, place)
    }

    fn submit(&mut self, errand: Errand, place: usize) -> Result<(), Fault> {
        let sector = self.ledger.number(place) * SECTORS;
        let mut block = [0; BLOCK];
        let request = match errand {
            Errand::Write => {
                self.ledger.next(place).fill(&mut block);
                Request::Write { sector, data: &block }
            }
            Errand::Read => Request::Read { sector, len: BLOCK as u32 },
            Errand::Flush => Request::Flush,
        };
        let layout = if self.random.is_multiple_of(2) { Layout::PLAIN } else { Layout::INDIRECT };
        let slot =
            self.queue.submit(request, &layout).map_err(|error| Fault::Queue(error.to_string()))?;
        self.errands[usize::from(slot.0)] = Some((errand, place));
        Ok(())
    }

    fn read_everything(&mut self) -> Result<(), Fault> {
        for place in 0..self.ledger.len() {
            if usize::from(self.queue.outstanding()) == self.errands.len() {
                self.turn(false)?;
            }
            self.submit(Errand::Read, place)?;
            self.queue.kick();
        }
        while self.queue.outstanding() > 0 {
            self.turn(false)?;
        }
        Ok(())
    }

    /// xorshift64.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
