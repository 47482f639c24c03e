//! `bench`: the same request again and again, so many at a time, and how long that took.
//!
//! Formats work on one thread. Files that the host caches are read and written there, too; what waits for a
//! device is given to other threads, as many requests at a time as there are of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::Outcome;
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::task::Tasks;
use bulkhead_protocol::tool::{BenchPlan, PlannedDisk, ToolEvent};

use super::disk::{self, Disk};
use super::files::Files;
use super::hands::Hands;
use super::report::Report;

/// What all requests share.
struct Load {
    disk: Disk,
    buffer: Memory,
    begun: Cell<u64>,
    next: Cell<u64>,
    plan: BenchPlan,
}

/// Does it.
pub fn run(
    planned: &PlannedDisk,
    plan: &BenchPlan,
    files: &mut Files,
    hands: &Hands,
    report: &Report,
) -> Result<()> {
    if plan.careless {
        files.be_careless();
    }
    let disk = disk::open(planned, Options::WRITE, files)?;
    let size = plan.size;
    if plan.offset.saturating_add(size) > disk.size() {
        bail!("a request of {size} bytes at {} ends behind the disk", plan.offset);
    }
    let heap = Heap::zeroes(size as usize);
    heap.with(|bytes| bytes.fill(plan.write.unwrap_or(0)));
    let load = Rc::new(Load {
        disk,
        buffer: heap.into(),
        begun: Cell::new(0),
        next: Cell::new(plan.offset),
        plan: plan.clone(),
    });
    let failed = Rc::new(Cell::new(None));
    let begun = Instant::now();
    let begin = |tasks: &mut Tasks| {
        for _ in 0..plan.depth {
            let (load, failed) = (Rc::clone(&load), Rc::clone(&failed));
            tasks.spawn(async move {
                if let Err(failure) = load.run().await {
                    failed.set(Some(failure));
                }
            });
        }
    };
    hands.take_all(plan.direct);
    hands.finish(begin, || Ok(()))?;
    if let Some(failure) = failed.get() {
        let what = if plan.write.is_some() { "write" } else { "read" };
        bail!("a {what} request failed: {failure}");
    }
    let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    load.disk.finish()?;
    report.tell(ToolEvent::Ran(took))
}

impl Load {
    /// One of those that run at a time.
    async fn run(&self) -> Outcome {
        let last = self.disk.size() - self.plan.size;
        while self.begun.get() < self.plan.count {
            let number = self.begun.get() + 1;
            self.begun.set(number);
            let at = self.next.get();
            let next = at.saturating_add(self.plan.step);
            self.next.set(if next > last { self.plan.offset } else { next });
            self.request(at).await?;
            let due = |every: u64| number.is_multiple_of(every);
            if self.plan.write.is_some() && self.plan.flush_interval.is_some_and(due) {
                self.disk.flush().await?;
            }
        }
        Ok(())
    }

    async fn request(&self, at: u64) -> Outcome {
        let buffer = self.buffer.clone();
        match self.plan.write {
            Some(_) => self.disk.write(at, buffer).await,
            None => self.disk.read(at, buffer).await,
        }
    }
}
