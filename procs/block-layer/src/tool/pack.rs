//! Clusters of an image that are compressed by several threads and written by one.
//!
//! The image stays with the thread that has it: the others get bytes and give bytes. What comes back is
//! written in the order in which it was put in. A few clusters per thread are on their way, no more, so memory
//! is bounded.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::{Packer, Qcow2};
use bulkhead_block_layer::task::finish;

use super::hands::Hands;
use super::store::Store;

/// Clusters of one thread that are on their way.
const AHEAD: u64 = 4;

/// Said where no thread is left.
const GONE: &str = "the threads that compress are gone";

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
    image: &'a Qcow2<Store>,
    hands: &'a Hands,
    /// The image's compressors, one for each thread; those in use are out.
    packers: Arc<Mutex<Vec<Packer>>>,
    answers: Sender<Cluster>,
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
        image: &'a Qcow2<Store>,
        hands: &'a Hands,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (answers, done) = channel();
        let packers = (0..hands.count()).map(|_| image.packer()).collect();
        let mut packers = Self {
            image,
            hands,
            packers: Arc::new(Mutex::new(packers)),
            answers,
            done,
            waiting: BTreeMap::new(),
            begun: 0,
            written: 0,
            most: hands.count() as u64 * AHEAD,
        };
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
        let (packers, answers) = (Arc::clone(&self.packers), self.answers.clone());
        let given = self.hands.give(Box::new(move || {
            // Nobody waits for an answer any more if there is nobody to send it to.
            let _ = answers.send(pack(&packers, cluster));
        }));
        given.then_some(()).context(GONE)
    }

    fn write_one(&mut self) -> Result<()> {
        let cluster = loop {
            if let Some(cluster) = self.waiting.remove(&self.written) {
                break cluster;
            }
            let cluster = self.done.recv().context(GONE)?;
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

fn pack(packers: &Mutex<Vec<Packer>>, mut cluster: Cluster) -> Cluster {
    let lock = || packers.lock().unwrap_or_else(PoisonError::into_inner);
    let packer = lock().pop();
    // As many as there are threads.
    if let Some(mut packer) = packer {
        cluster.packed = packer.pack(&cluster.bytes);
        lock().push(packer);
    }
    cluster
}
