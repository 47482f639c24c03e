//! A driver that keeps a number of requests in flight for a while.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bulkhead_harness::frontend::{Layout, Queue, Request, SECTOR};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Reads anywhere.
    RandomRead,
    /// Writes anywhere.
    RandomWrite,
    /// Reads one after the other.
    SequentialRead,
    /// Writes that far apart, once over the disk: there it ends, whatever the time.
    WriteOnce {
        /// Bytes from one to the next.
        step: u64,
    },
}

/// A load on one queue.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What is asked.
    pub pattern: Pattern,
    /// Bytes of a request.
    pub block: u32,
    /// Requests in flight.
    pub depth: u16,
    /// Bytes of the disk.
    pub size: u64,
}

/// Requests that were completed in a time.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Requests.
    pub requests: u64,
    /// How long they took.
    pub time: Duration,
}

/// Longest wait for a completion before a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Drives `queue` for `time`. It waits for the device's call as a guest does.
pub fn drive(queue: &mut Queue, load: Load, time: Duration) -> Result<Done> {
    let mut source = Source::new(load);
    let start = Instant::now();
    for _ in 0..load.depth {
        source.submit(queue)?;
    }
    queue.kick();
    let mut requests = 0;
    while queue.outstanding() > 0 && start.elapsed() < time {
        let mut next = queue.wait(PATIENCE)?;
        ensure!(next.is_some(), "the backend keeps silent");
        while let Some(done) = next {
            ensure!(done.is_ok(), "a request failed: {done:?}");
            requests += 1;
            source.submit(queue)?;
            next = queue.poll()?;
        }
        queue.kick();
    }
    let time = start.elapsed();
    while queue.outstanding() > 0 {
        ensure!(queue.wait(PATIENCE)?.is_some(), "the backend keeps silent");
    }
    Ok(Done { requests, time })
}

struct Source {
    load: Load,
    data: Vec<u8>,
    random: u64,
    next: u64,
}

impl Source {
    fn new(load: Load) -> Self {
        let data = vec![0x5a; load.block as usize];
        Self { load, data, random: 0x9e37_79b9_7f4a_7c15, next: 0 }
    }

    /// The next request, if there is one.
    fn submit(&mut self, queue: &mut Queue) -> Result<()> {
        let blocks = self.load.size / u64::from(self.load.block);
        let block = match self.load.pattern {
            Pattern::SequentialRead => self.next % blocks,
            Pattern::RandomRead | Pattern::RandomWrite => self.draw() % blocks,
            Pattern::WriteOnce { step } if self.next * step >= self.load.size => return Ok(()),
            Pattern::WriteOnce { step } => self.next * step / u64::from(self.load.block),
        };
        self.next += 1;
        let sector = block * (u64::from(self.load.block) / SECTOR);
        let request = match self.load.pattern {
            Pattern::RandomWrite | Pattern::WriteOnce { .. } => {
                Request::Write { sector, data: &self.data }
            }
            _ => Request::Read { sector, len: self.load.block },
        };
        queue.submit(request, &Layout::INDIRECT)?;
        Ok(())
    }

    /// xorshift64: fast, and the same sequence for both sides.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
