//! Threads that compress clusters for one that writes them.
//!
//! The threads ([`Hands`]) are made before the seal and wait for the image they compress for. It stays with
//! the thread that has it: the others get bytes and give bytes. What comes back is written in the order in
//! which it was put in. A few clusters per thread are on their way, no more, so memory is bounded.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::{Packer, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

/// Clusters of one thread that are on their way.
const AHEAD: u64 = 4;

/// A thread's stack: tables of what compresses are on the heap.
const STACK: usize = 256 * 1024;

/// A cluster on its way.
#[derive(Debug)]
struct Cluster {
    number: u64,
    at: u64,
    bytes: Vec<u8>,
    /// Shorter than the bytes, once it is there.
    packed: Option<Vec<u8>>,
}

/// Threads that wait for work.
#[derive(Debug)]
pub struct Hands {
    /// Each is given the image's compressor once.
    packers: Vec<Sender<Packer>>,
    jobs: Sender<Cluster>,
    done: Receiver<Cluster>,
}

impl Hands {
    /// Makes so many threads. To be called before the seal.
    pub fn make(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let (answers, done) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let begun = Arc::new(Barrier::new(threads + 1));
        let mut packers = Vec::new();
        for number in 0..threads {
            let (packer, given) = channel();
            packers.push(packer);
            let (queue, answers, begun) = (Arc::clone(&queue), answers.clone(), Arc::clone(&begun));
            let thread = thread::Builder::new().name(format!("pack-{number}")).stack_size(STACK);
            thread.spawn(move || {
                begun.wait();
                if let Ok(packer) = given.recv() {
                    pack(&queue, &answers, packer);
                }
                // A thread of a sealed process has no way to end but the process's own.
                loop {
                    thread::park();
                }
            })?;
        }
        begun.wait();
        Ok(Self { packers, jobs, done })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Packers<'a> {
    image: &'a Qcow2<Plain>,
    hands: Hands,
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
        hands: Hands,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        for packer in &hands.packers {
            packer.send(image.packer()).context("the threads that compress are gone")?;
        }
        let (waiting, most) = (BTreeMap::new(), hands.packers.len() as u64 * AHEAD);
        let mut packers = Self { image, hands, waiting, begun: 0, written: 0, most };
        work(&mut packers)?;
        while packers.written < packers.begun {
            packers.write_one()?;
        }
        Ok(())
    }

    /// A cluster to be written at `at`.
    pub fn put(&mut self, at: u64, bytes: Vec<u8>) -> Result<()> {
        while self.begun - self.written >= self.most {
            self.write_one()?;
        }
        let cluster = Cluster { number: self.begun, at, bytes, packed: None };
        self.begun += 1;
        self.hands.jobs.send(cluster).context("the threads that compress are gone")
    }

    fn write_one(&mut self) -> Result<()> {
        let cluster = loop {
            if let Some(cluster) = self.waiting.remove(&self.written) {
                break cluster;
            }
            let cluster = self.hands.done.recv().context("the threads that compress are gone")?;
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
