//! A device that takes every request it is given and asks what must hold for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_backend_kit::{Device, DeviceFault, Queues, Taken, Token};
use bulkhead_sys::poller::Poller;
use bulkhead_virtqueue::Chain;

/// Requests that the device takes in one turn.
const MOST_TAKEN: usize = 64;

/// Takes everything, gives half of it back at once and the rest in the next turn.
pub struct Taker {
    taken: Arc<AtomicU64>,
    chain: Chain,
    held: Vec<(usize, Token)>,
}

impl Taker {
    /// Counts in `taken` what it takes.
    pub fn new(taken: Arc<AtomicU64>) -> Self {
        Self { taken, chain: Chain::default(), held: Vec::new() }
    }

    fn take(&mut self, place: usize, queues: &mut Queues) -> bool {
        let Some(queue) = queues.get_mut(place).and_then(Option::as_mut) else { return false };
        for _ in 0..MOST_TAKEN {
            let token = match queue.take(&mut self.chain) {
                None => return false,
                Some(Taken::Poison(token)) => {
                    queue.refuse(token, 0);
                    continue;
                }
                Some(Taken::Request(token)) => token,
            };
            let number = self.taken.fetch_add(1, Ordering::Relaxed);
            self.chain.lies_in(queue.memory()).expect("a buffer outside of guest memory");
            if !self.chain.writable.is_empty() {
                let memory = queue.memory();
                self.chain.writable.copy_out(memory, 0, &[0]).expect("writable memory");
            }
            match number % 5 {
                0 | 1 => queue.complete(token, 1),
                2 if !queue.is_stopping() => {
                    queue.untake(token);
                    return true;
                }
                _ => self.held.push((place, token)),
            }
        }
        true
    }
}

impl Device for Taker {
    type Order = ();

    fn watch(&mut self, _poller: &Poller, _first: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn serve(&mut self, queues: &mut Queues) -> Result<bool, DeviceFault> {
        let mut busy = !self.held.is_empty();
        for (place, token) in self.held.drain(..) {
            if let Some(Some(queue)) = queues.get_mut(place) {
                queue.complete(token, 0);
            }
        }
        for place in 0..queues.len() {
            busy |= self.take(place, queues);
        }
        Ok(busy || !self.held.is_empty())
    }

    fn order(&mut self, (): (), _queues: &mut Queues) -> Result<(), DeviceFault> {
        Ok(())
    }
}
