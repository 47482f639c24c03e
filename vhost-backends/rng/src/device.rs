//! virtio-rng (virtio 1.2 section 5.4): one queue of buffers to be filled.

use std::io;

use bulkhead_backend_kit::{Device, DeviceFault, LiveQueue, Queues, Taken};
use bulkhead_sys::entropy;
use bulkhead_sys::poller::{Poller, Token};
use bulkhead_virtqueue::Chain;

/// Most bytes for one request: a device may fill less than it is given (5.4.6.1), and a guest must not
/// keep this thread busy with one request.
const MOST_BYTES: u64 = 4096;

/// Most requests of one turn; heartbeats are answered between turns.
const MOST_REQUESTS: usize = 32;

/// This device takes no orders.
#[derive(Debug)]
pub enum NoOrder {}

/// The device.
#[derive(Debug)]
pub struct Rng {
    chain: Chain,
    bytes: Box<[u8]>,
}

impl Default for Rng {
    fn default() -> Self {
        Self { chain: Chain::default(), bytes: vec![0; MOST_BYTES as usize].into() }
    }
}

impl Rng {
    /// Serves one request; `false`: there is none.
    fn serve_one(&mut self, queue: &mut LiveQueue) -> Result<bool, DeviceFault> {
        let token = match queue.take(&mut self.chain) {
            None => return Ok(false),
            Some(Taken::Request(token)) => token,
            Some(Taken::Poison(token)) => {
                queue.refuse(token, 0);
                return Ok(true);
            }
        };
        let len = self.chain.writable.len().min(MOST_BYTES) as usize;
        let bytes = self.bytes.get_mut(..len).unwrap_or_default();
        entropy::fill(bytes)?;
        // Memory that is gone by now is the guest's own loss: it gets nothing.
        let written = match self.chain.writable.copy_out(queue.memory(), 0, bytes) {
            Ok(()) => len as u32,
            Err(_) => 0,
        };
        // What is the guest's secret now is kept nowhere else.
        bytes.fill(0);
        queue.complete(token, written);
        Ok(true)
    }
}

impl Device for Rng {
    type Order = NoOrder;

    fn watch(&mut self, _poller: &Poller, _first: Token) -> io::Result<()> {
        Ok(())
    }

    fn serve(&mut self, queues: &mut Queues) -> Result<bool, DeviceFault> {
        let mut any = false;
        for queue in queues.iter_mut().flatten() {
            for _ in 0..MOST_REQUESTS {
                if !self.serve_one(queue)? {
                    break;
                }
                any = true;
            }
        }
        Ok(any)
    }

    fn order(&mut self, order: NoOrder, _queues: &mut Queues) -> Result<(), DeviceFault> {
        match order {}
    }
}

#[cfg(test)]
mod tests;
