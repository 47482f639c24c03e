//! virtio-console (virtio 1.2 section 5.3) with its one port: queue 0 carries bytes to the guest,
//! queue 1 bytes from it.
//!
//! Law: nothing is lost when this process dies, and little is repeated.
//! - A request from the guest is given back when all its bytes are in the stream.
//! - Bytes for the guest stay in the stream until the guest has been shown them: they are looked at,
//!   delivered, and only then taken.
//!
//! Back-pressure is what follows: a stream that takes no bytes leaves requests with the device, and a
//! guest that gives no buffers leaves bytes in the stream.
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

/// Bytes for the guest looked at in one turn.
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
    /// The stream's next bytes, which are still in it.
    input: Box<[u8]>,
    /// How many of them.
    seen: usize,
    /// How many of these were delivered and shown; to be taken from the stream.
    delivered: usize,
    output: Box<[u8]>,
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
            input: vec![0; INPUT].into(),
            seen: 0,
            delivered: 0,
            output: vec![0; OUTPUT].into(),
            readable: false,
        }
    }

    /// Guest → stream.
    fn transmit(&mut self, queue: &mut LiveQueue) -> bool {
        let mut any = false;
        for _ in 0..MOST_REQUESTS {
            let Some(outgoing) = self.unsent.take().or_else(|| self.take_outgoing(queue)) else {
                break;
            };
            self.unsent = self.push(queue, outgoing);
            if self.unsent.is_some() {
                break;
            }
            any = true;
        }
        queue.set_hungry(self.unsent.is_none());
        any
    }

    fn take_outgoing(&mut self, queue: &mut LiveQueue) -> Option<Outgoing> {
        loop {
            match queue.take(&mut self.outgoing)? {
                Taken::Request(token) => return Some(Outgoing { token, sent: 0 }),
                Taken::Poison(token) => queue.refuse(token, 0),
            }
        }
    }

    /// Passes the rest of a request on; what is left of it comes back.
    fn push(&mut self, queue: &mut LiveQueue, mut outgoing: Outgoing) -> Option<Outgoing> {
        loop {
            let left = self.outgoing.readable.len().saturating_sub(outgoing.sent);
            let len = left.min(OUTPUT as u64) as usize;
            let bytes = self.output.get_mut(..len).unwrap_or_default();
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

    /// Stream → guest. Ends with what was looked at: the next bytes are looked at when these were
    /// shown to the guest and taken, in the next turn.
    fn receive(&mut self, queue: &mut LiveQueue) -> bool {
        self.look();
        let mut any = false;
        for _ in 0..MOST_REQUESTS {
            if self.delivered == self.seen {
                break;
            }
            match queue.take(&mut self.incoming) {
                None => break,
                Some(Taken::Poison(token)) => queue.refuse(token, 0),
                Some(Taken::Request(token)) => self.deliver(queue, token),
            }
            any = true;
        }
        queue.set_hungry(self.seen > 0);
        any
    }

    /// Takes from the stream what the last turn delivered; it was shown to the guest since.
    fn settle(&mut self) {
        if self.delivered > 0 {
            self.stream.consume(self.delivered);
            self.input.copy_within(self.delivered..self.seen, 0);
            self.seen -= self.delivered;
            self.delivered = 0;
        }
    }

    fn look(&mut self) {
        if self.seen == 0 && self.readable {
            self.seen = self.stream.peek(&mut self.input);
            self.readable = self.seen > 0;
        }
    }

    fn deliver(&mut self, queue: &mut LiveQueue, token: Token) {
        let rest = self.input.get(self.delivered..self.seen).unwrap_or_default();
        let len = self.incoming.writable.len().min(rest.len() as u64) as usize;
        let bytes = rest.get(..len).unwrap_or_default();
        match self.incoming.writable.copy_out(queue.memory(), 0, bytes) {
            Ok(()) => {
                queue.complete(token, len as u32);
                self.delivered += len;
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
        self.settle();
        let mut any = false;
        if let Some(Some(queue)) = queues.get_mut(RECEIVE) {
            any |= self.receive(queue);
        }
        if let Some(Some(queue)) = queues.get_mut(TRANSMIT) {
            any |= self.transmit(queue);
        }
        // What is known to be there need not be told again, until somebody takes it.
        self.stream.want(!self.readable, self.unsent.is_some())?;
        Ok(any)
    }

    fn event(&mut self, _poller: &Poller, event: Event) -> Result<(), DeviceFault> {
        self.readable |= event.readable || event.hung_up;
        if event.hung_up {
            self.stream.ended();
        }
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
mod tests;
