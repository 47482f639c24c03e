//! Threads that compress clusters for one that writes them.
//!
//! The image stays with the thread that has it: the others get bytes and give bytes. What comes back is
//! written in the order in which it was put in. A few clusters per thread are on their way, no more, so
//! memory is bounded.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::{Packer, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

/// Clusters of one thread that are on their way.
const AHEAD: u64 = 4;

/// Most threads.
const MOST: usize = 16;

/// A cluster on its way.
#[derive(Debug)]
struct Cluster {
    number: u64,
    at: u64,
    bytes: Vec<u8>,
    /// Shorter than the bytes, once it is there.
    packed: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub struct Packers<'a> {
    image: &'a Qcow2<Plain>,
    jobs: Sender<Cluster>,
    done: Receiver<Cluster>,
    /// Back already, and not yet their turn.
    waiting: BTreeMap<u64, Cluster>,
    begun: u64,
    written: u64,
    most: u64,
}

impl<'a> Packers<'a> {
    /// Lets `work` put clusters in, and ends when all of them are written.
    pub fn run(
        image: &'a Qcow2<Plain>,
        threads: Option<usize>,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let usual = || thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(usual).clamp(1, MOST);
        let (jobs, queue) = channel();
        let (answers, done) = channel();
        let queue = Arc::new(Mutex::new(queue));
        thread::scope(|scope| {
            for _ in 0..threads {
                let (queue, answers, packer) =
                    (Arc::clone(&queue), answers.clone(), image.packer());
                scope.spawn(move || pack(&queue, &answers, packer));
            }
            drop(answers);
            let (waiting, most) = (BTreeMap::new(), threads as u64 * AHEAD);
            let mut packers = Self { image, jobs, done, waiting, begun: 0, written: 0, most };
            work(&mut packers)?;
            while packers.written < packers.begun {
                packers.write_one()?;
            }
            // The threads end with the queue.
            Ok(())
        })
    }

    /// A cluster to be written at `at`.
    pub fn put(&mut self, at: u64, bytes: Vec<u8>) -> Result<()> {
        while self.begun - self.written >= self.most {
            self.write_one()?;
        }
        let cluster = Cluster { number: self.begun, at, bytes, packed: None };
        self.begun += 1;
        self.jobs.send(cluster).context("the threads that compress are gone")
    }

    fn write_one(&mut self) -> Result<()> {
        let cluster = loop {
            if let Some(cluster) = self.waiting.remove(&self.written) {
                break cluster;
            }
            let cluster = self.done.recv().context("the threads that compress are gone")?;
            self.waiting.insert(cluster.number, cluster);
        };
        self.written += 1;
        match cluster.packed {
            Some(packed) => {
                finish(self.image.write_packed(cluster.at, cluster.bytes.len() as u64, &packed))?;
            }
            None => finish(self.image.write(cluster.at, Heap::copy_of(&cluster.bytes).into()))?,
        }
        Ok(())
    }
}

fn pack(queue: &Mutex<Receiver<Cluster>>, answers: &Sender<Cluster>, mut packer: Packer) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut cluster) = next else {
            return;
        };
        cluster.packed = packer.pack(&cluster.bytes);
        if answers.send(cluster).is_err() {
            return;
        }
    }
}
