//! One queue of the disk: requests in, pieces out, and back.
//!
//! ```text
//!               take                     cut, copy, submit             completion
//!   virtqueue ────────► Request ──────────────────────────────► out ──────────────► last piece?
//!                          │ answered at once (id, errors)                             │ status
//!                          └───────────────────────────────────────────────────────────┴──► give back
//! ```
//!
//! Pieces that have no room wait, and with them everything behind: order of submission is order of
//! arrival. After a replacement of block-layer, what was out goes first, in its old order.

mod flow;
mod requests;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use bulkhead_backend_kit::{Device, DeviceFault, LiveQueue, Queues, Rest};
use bulkhead_block_client::{BlockClient, Link, LinkFault, Piece, Unfinished};
use bulkhead_ring::{Pace, Step};
use bulkhead_sys::cpu;
use bulkhead_sys::poller::{Event, Interest, Poller, Token};

use crate::commands::Order;
use crate::disk::Disk;
use requests::Requests;

/// Most completions and most requests of one turn: orders and heartbeats are looked at between turns,
/// and answers are shown.
const MOST_PER_TURN: usize = 128;

/// What part of which request a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which request of the queue.
    request: u32,
    /// First byte in the request's data.
    from: u64,
}

/// A queue's part of the device.
#[derive(Debug)]
pub struct BlkQueue {
    disk: Disk,
    link: Link<Part>,
    requests: Requests,
    /// The request whose pieces are being cut.
    cutting: Option<u32>,
    /// What was out when block-layer was replaced, and poison among it was sorted out.
    again: VecDeque<Piece<Part>>,
    /// No room for the next piece.
    stuck: bool,
    pace: Pace,
    began: Instant,
    cpu: Option<u32>,
}

impl BlkQueue {
    /// A queue of `disk` that submits on `link` and holds at most `queue_size` requests. Its thread
    /// goes to `cpu`.
    pub fn new(disk: Disk, link: Link<Part>, queue_size: u16, cpu: Option<u32>) -> Self {
        Self {
            disk,
            link,
            requests: Requests::new(queue_size),
            cutting: None,
            again: VecDeque::new(),
            stuck: false,
            pace: Pace::new(),
            began: Instant::now(),
            cpu,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn yield_once(&mut self) {
        let before = self.now();
        std::thread::yield_now();
        let after = self.now();
        self.pace.yielded(after.saturating_sub(before), after);
    }

    /// Takes completions; answers whether there was one.
    fn take_completions(&mut self, queue: &mut LiveQueue) -> Result<bool, LinkFault> {
        let mut any = false;
        for _ in 0..MOST_PER_TURN {
            let Some(done) = self.link.next_done()? else { break };
            self.finish(queue, done);
            any = true;
        }
        // Any completion makes room.
        self.stuck &= !any;
        Ok(any)
    }

    /// Submits what there is to submit; answers whether there was anything.
    fn take_requests(&mut self, queue: &mut LiveQueue) -> Result<bool, LinkFault> {
        let mut any = false;
        for _ in 0..MOST_PER_TURN {
            if self.stuck || !self.advance(queue)? {
                break;
            }
            any = true;
        }
        if any {
            self.link.publish();
        }
        queue.set_hungry(!self.stuck);
        Ok(any)
    }

    fn replace(&mut self, queues: &mut Queues, client: BlockClient, own_fault: bool) {
        // What is to be written is still in the guest's memory: a piece finds a new span like any other.
        let (_, unfinished) = self.link.replace(client);
        let mut out = Vec::with_capacity(unfinished.len());
        for Unfinished { piece, span, .. } in unfinished {
            self.link.release(span);
            out.push(piece);
        }
        // What still waited for its second time is behind what was out.
        let waited = std::mem::take(&mut self.again);
        self.again = out.into_iter().chain(waited).collect();
        self.stuck = false;
        if let (true, Some(Some(queue))) = (own_fault, queues.first_mut()) {
            self.sort_out_poison(queue);
        }
    }
}

/// Block-layer is the peer.
fn blamed(fault: LinkFault) -> DeviceFault {
    DeviceFault::Peer(fault.to_string())
}

impl Device for BlkQueue {
    type Order = Order;

    fn watch(&mut self, poller: &Poller, first: Token) -> io::Result<()> {
        if let Some(cpu) = self.cpu {
            // Placement is for speed: where the CPU is not allowed, any will do.
            let _ = cpu::restrict(0, &[cpu as usize]);
        }
        poller.add(self.link.bell(), first, Interest::Read)
    }

    fn serve(&mut self, queues: &mut Queues) -> Result<bool, DeviceFault> {
        // A queue is stopped when nothing of it is out: without one there is nothing to do.
        let Some(Some(queue)) = queues.first_mut() else { return Ok(false) };
        let mut any = self.take_completions(queue).map_err(blamed)?;
        any |= self.take_requests(queue).map_err(blamed)?;
        if any {
            self.pace.found();
        }
        Ok(any)
    }

    fn rest(&mut self) -> Result<Rest, DeviceFault> {
        let shared = self.link.shares_cpu();
        match self.pace.next(shared, self.now()) {
            Step::Spin => std::hint::spin_loop(),
            Step::YieldOnce => self.yield_once(),
            Step::Arm if self.link.arm().map_err(blamed)? => return Ok(Rest::Sleep),
            Step::Arm => {}
        }
        Ok(Rest::Look)
    }

    fn woke(&mut self) {
        self.link.disarm();
        self.pace.found();
    }

    fn event(&mut self, _poller: &Poller, _event: Event) -> Result<(), DeviceFault> {
        self.link.bell().clear();
        Ok(())
    }

    fn order(&mut self, order: Order, queues: &mut Queues) -> Result<(), DeviceFault> {
        let Order::Ring { client, own_fault } = order;
        self.replace(queues, *client, own_fault);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
