//! virtio-console (virtio 1.2 section 5.3) with its one port: queue 0 carries bytes to the guest,
//! queue 1 bytes from it.
//!
//! Law: a request from the guest is given back when all its bytes are in the stream, so that the death
//! of this process loses none (it may repeat some). Bytes for the guest that were taken from the stream
//! and not delivered die with the process; at most [`INPUT`] of them are ever held.
//!
//! Absent on purpose: multiport and its control queues, emergency write.

use std::io;
use std::os::fd::OwnedFd;

use bulkhead_backend_kit::{Device, DeviceFault, Identity, LiveQueue, Queues, Taken, Token};
use bulkhead_sys::poller::{Event, Poller, Token as PollToken};
use bulkhead_virtqueue::Chain;

use crate::stream::Stream;

/// `VIRTIO_CONSOLE_F_SIZE` (5.3.3).
const F_SIZE: u64 = 1 << 0;

/// Bytes for the guest held here.
const INPUT: usize = 4096;

/// Bytes from the guest passed on at once.
const OUTPUT: usize = 16 * 1024;

/// Most requests of one turn; heartbeats are answered between turns.
const MOST_REQUESTS: usize = 32;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Features and configuration space (5.3.4: cols, rows, max_nr_ports, emerg_wr) for a terminal of this
/// size; 0 and 0: unknown, which drivers take as "do not resize".
pub fn identity(columns: u16, rows: u16) -> Identity {
    let mut config = Vec::with_capacity(12);
    config.extend(columns.to_le_bytes());
    config.extend(rows.to_le_bytes());
    config.extend(1u32.to_le_bytes());
    config.extend(0u32.to_le_bytes());
    Identity { features: F_SIZE, config }
}

/// This device takes no orders: a change of size is a change of its configuration.
#[derive(Debug)]
pub enum NoOrder {}

/// A request from the guest that is not in the stream yet.
#[derive(Debug)]
struct Outgoing {
    token: Token,
    /// Bytes of it that are.
    sent: u64,
}

/// The device.
#[derive(Debug)]
pub struct Console {
    stream: Stream,
    incoming: Chain,
    outgoing: Chain,
    unsent: Option<Outgoing>,
    input: Vec<u8>,
    buffer: Box<[u8]>,
    /// The stream may have something to read.
    readable: bool,
}

impl Console {
    /// A console on this stream.
    pub fn new(stream: OwnedFd) -> Self {
        Self {
            stream: Stream::new(stream),
            incoming: Chain::default(),
            outgoing: Chain::default(),
            unsent: None,
            input: Vec::with_capacity(INPUT),
            buffer: vec![0; OUTPUT].into(),
            readable: false,
        }
    }

    /// Guest → stream.
    fn transmit(&mut self, queue: &mut LiveQueue) -> bool {
        let mut any = false;
        for _ in 0..MOST_REQUESTS {
            if self.unsent.is_none() {
                match queue.take(&mut self.outgoing) {
                    None => break,
                    Some(Taken::Poison(token)) => queue.refuse(token, 0),
                    Some(Taken::Request(token)) => self.unsent = Some(Outgoing { token, sent: 0 }),
                }
            }
            let Some(outgoing) = self.unsent.take() else { continue };
            match self.push(queue, outgoing) {
                None => any = true,
                unsent => {
                    self.unsent = unsent;
                    break;
                }
            }
        }
        queue.set_hungry(self.unsent.is_none());
        any
    }

    /// Passes the rest of a request on; what is left of it comes back.
    fn push(&mut self, queue: &mut LiveQueue, mut outgoing: Outgoing) -> Option<Outgoing> {
        loop {
            let left = self.outgoing.readable.len() - outgoing.sent;
            let len = left.min(OUTPUT as u64) as usize;
            let bytes = self.buffer.get_mut(..len).unwrap_or_default();
            let copied = self.outgoing.readable.copy_in(queue.memory(), outgoing.sent, bytes);
            if left == 0 || copied.is_err() {
                // Memory that is gone by now held nothing to print.
                queue.complete(outgoing.token, 0);
                return None;
            }
            match self.stream.write(bytes) {
                0 => return Some(outgoing),
                sent => outgoing.sent += sent as u64,
            }
        }
    }

    /// Stream → guest.
    fn receive(&mut self, queue: &mut LiveQueue) -> bool {
        let mut any = false;
        for _ in 0..MOST_REQUESTS {
            self.fill();
            if self.input.is_empty() {
                break;
            }
            match queue.take(&mut self.incoming) {
                None => break,
                Some(Taken::Poison(token)) => queue.refuse(token, 0),
                Some(Taken::Request(token)) => self.deliver(queue, token),
            }
            any = true;
        }
        queue.set_hungry(!self.input.is_empty());
        any
    }

    fn fill(&mut self) {
        if !self.input.is_empty() || !self.readable {
            return;
        }
        self.input.resize(INPUT, 0);
        let len = self.stream.read(&mut self.input);
        self.input.truncate(len);
        self.readable = len > 0;
    }

    fn deliver(&mut self, queue: &mut LiveQueue, token: Token) {
        let len = self.incoming.writable.len().min(self.input.len() as u64) as usize;
        let bytes = self.input.get(..len).unwrap_or_default();
        match self.incoming.writable.copy_out(queue.memory(), 0, bytes) {
            Ok(()) => {
                queue.complete(token, len as u32);
                self.input.drain(..len);
            }
            Err(_) => queue.complete(token, 0),
        }
    }
}

impl Device for Console {
    type Order = NoOrder;

    fn watch(&mut self, poller: &Poller, first: PollToken) -> io::Result<()> {
        self.stream.watch(poller, first)
    }

    fn serve(&mut self, queues: &mut Queues) -> Result<bool, DeviceFault> {
        let mut any = false;
        if let Some(Some(queue)) = queues.get_mut(RECEIVE) {
            any |= self.receive(queue);
        }
        if let Some(Some(queue)) = queues.get_mut(TRANSMIT) {
            any |= self.transmit(queue);
        }
        self.stream.want(self.input.is_empty(), self.unsent.is_some())?;
        Ok(any)
    }

    fn event(&mut self, _poller: &Poller, event: Event) -> Result<(), DeviceFault> {
        // Taken at once, even while no queue runs: what is left in the stream would wake us for ever.
        self.readable |= event.readable || event.hung_up;
        self.fill();
        Ok(())
    }

    fn order(&mut self, order: NoOrder, _queues: &mut Queues) -> Result<(), DeviceFault> {
        match order {}
    }

    fn stop(&mut self, queue: &mut LiveQueue) {
        if usize::from(queue.index()) == TRANSMIT
            && let Some(outgoing) = self.unsent.take()
        {
            // What is in the stream may be printed again when the queue starts anew: at least once.
            queue.untake(outgoing.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_in_the_configuration_space() {
        let identity = identity(80, 25);
        assert_eq!(identity.config, [80, 0, 25, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(identity.features, F_SIZE);
    }
}
