//! `bench`: the same request again and again, so many at a time, and how long that took.
//!
//! Requests run on one thread over files that block; what is measured is the format's work and the page
//! cache's, or with `-t none` the device's at depth 1.

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::Outcome;
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::Tasks;

use crate::cli;
use crate::disk::{Disk, Files};
use crate::seal;

/// What all requests share.
struct Load {
    disk: Disk,
    buffer: Memory,
    write: bool,
    begun: Cell<u64>,
    next: Cell<u64>,
    options: cli::Bench,
}

/// `bench`
pub fn run(options: &cli::Bench) -> Result<ExitCode> {
    if options.depth == 0 || options.size == 0 || options.count == 0 {
        bail!("-c, -d and -s must be at least 1");
    }
    let files = Files::open_cached(
        options.format,
        &options.file,
        &options.chain,
        !options.write,
        options.cache,
    )?;
    seal::seal()?;
    let disk = files.disk(Options::WRITE)?;
    let (size, step) = (options.size, options.step.unwrap_or(options.size));
    if options.offset.saturating_add(size) > disk.size() {
        bail!("a request of {size} bytes at {} ends behind the disk", options.offset);
    }
    let what = if options.write { "write" } else { "read" };
    if !options.quiet {
        println!(
            "Sending {} {what} requests, {size} bytes each, {} in parallel (starting at offset {}, step size {step})",
            options.count, options.depth, options.offset
        );
    }
    let heap = Heap::zeroes(size as usize);
    heap.with(|bytes| bytes.fill(options.pattern));
    let load = Rc::new(Load {
        disk,
        buffer: heap.into(),
        write: options.write,
        begun: Cell::new(0),
        next: Cell::new(options.offset),
        options: options.clone(),
    });
    let failed = Rc::new(Cell::new(None));
    let begun = Instant::now();
    let mut tasks = Tasks::default();
    for _ in 0..options.depth {
        let (load, failed) = (Rc::clone(&load), Rc::clone(&failed));
        tasks.spawn(async move {
            if let Err(failure) = load.run().await {
                failed.set(Some(failure));
            }
        });
    }
    tasks.run();
    if let Some(failure) = failed.get() {
        bail!("a {what} request failed: {failure}");
    }
    if !options.quiet {
        println!("Run completed in {:.3} seconds.", begun.elapsed().as_secs_f64());
    }
    load.disk.finish()?;
    Ok(ExitCode::SUCCESS)
}

impl Load {
    /// One of those that run at a time.
    async fn run(&self) -> Outcome {
        let (size, last) = (self.options.size, self.disk.size() - self.options.size);
        let step = self.options.step.unwrap_or(size);
        while self.begun.get() < self.options.count {
            let number = self.begun.get() + 1;
            self.begun.set(number);
            let at = self.next.get();
            let next = at + step;
            self.next.set(if next > last { self.options.offset } else { next });
            self.request(at).await?;
            if self.write
                && self.options.flush_interval.is_some_and(|every| number.is_multiple_of(every))
            {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn request(&self, at: u64) -> Outcome {
        let buffer = self.buffer.clone();
        match (&self.disk, self.write) {
            (Disk::Raw { file, .. }, true) => file.write(at, buffer).await,
            (Disk::Raw { file, .. }, false) => file.read(at, buffer).await,
            (Disk::Qcow2(image), true) => image.write(at, buffer).await,
            (Disk::Qcow2(image), false) => image.read(at, buffer).await,
        }
    }

    async fn flush(&self) -> Outcome {
        match &self.disk {
            Disk::Raw { file, .. } => file.sync().await,
            Disk::Qcow2(image) => image.flush().await,
        }
    }
}
