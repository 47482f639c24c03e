//! One queue: requests in, completions out.
//!
//! A queue belongs to one thread. It knows nothing of the connection: while the backend is dead,
//! requests can still be submitted and wait in the ring.

use std::os::fd::AsRawFd;
use std::time::Duration;

use bulkhead_sys::clock::Deadline;
use bulkhead_sys::mapping::OutOfMapping;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::layout::{Layout, Piece, cut};
use super::memory::{GUEST_BASE, INDIRECT_ENTRIES};
use super::options::Options;
use super::request::{HEADER, Request, STATUS_UNWRITTEN, Status};
use super::ring::{Descriptor, INDIRECT, NEXT, Ring, WRITE};

/// A place for one request, from 0 to the queue's depth less one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// A request that the device has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Which one.
    pub slot: Slot,
    /// How it ended.
    pub status: Status,
    /// Bytes that the device says it wrote, the status included.
    pub written: u32,
}

impl Completion {
    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }
}

/// What is wrong with a submission, or with what the device did.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// All slots or descriptors are in use.
    #[error("the queue is full")]
    Full,
    /// The request does not fit its slot's buffer or indirect table.
    #[error("a request of {0} bytes or descriptors does not fit")]
    TooLong(usize),
    /// The device completed a chain that is not in flight: one it never got, or one for the second time.
    #[error("the device completed descriptor {0}, which is not in flight")]
    NotInFlight(u32),
    /// The device moved its index by more than what is in flight.
    #[error("the device says that {said} requests are complete, {outstanding} are in flight")]
    IndexJump {
        /// By how many.
        said: u16,
        /// How many there were.
        outstanding: u16,
    },
    /// A bug of the test.
    #[error(transparent)]
    Bug(#[from] OutOfMapping),
    /// The host refused.
    #[error(transparent)]
    Host(#[from] std::io::Error),
}

/// A request in flight.
#[derive(Debug, Default)]
struct InFlight {
    /// Its descriptors in the ring; the first is the head. Empty: not in flight.
    chain: Vec<u16>,
    /// Bytes after the header that the device reads.
    out: u32,
    /// Bytes that it writes in front of the status.
    input: u32,
}

/// A virtqueue of a disk.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    buffer: usize,
    free_descriptors: Vec<u16>,
    /// Oldest first, so that the data of a completion stays as long as possible.
    free_slots: std::collections::VecDeque<u16>,
    slots: Vec<InFlight>,
    /// Slot by head.
    owners: Vec<Option<u16>>,
    outstanding: u16,
    pieces: Vec<Piece>,
    kick: EventFd,
    call: EventFd,
    waiter: Epoll,
}

impl Queue {
    pub(super) fn new(
        ring: Ring,
        options: &Options,
        kick: EventFd,
        call: EventFd,
    ) -> std::io::Result<Self> {
        let waiter = Epoll::new()?;
        let event = EpollEvent::new(EventSet::IN, 0);
        waiter.ctl(ControlOperation::Add, call.as_raw_fd(), event)?;
        Ok(Self {
            ring,
            buffer: options.buffer,
            free_descriptors: (0..options.queue_size).rev().collect(),
            free_slots: (0..options.depth).collect(),
            slots: (0..options.depth).map(|_| InFlight::default()).collect(),
            owners: vec![None; usize::from(options.queue_size)],
            outstanding: 0,
            pieces: Vec::new(),
            kick,
            call,
            waiter,
        })
    }

    /// Requests in flight.
    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// Whether the slot's request is in flight.
    pub fn is_in_flight(&self, slot: Slot) -> bool {
        self.slots.get(usize::from(slot.0)).is_some_and(|slot| !slot.chain.is_empty())
    }

    /// Makes a request available to the device. It may see it at once; it is told of it by
    /// [`Queue::kick`].
    pub fn submit(&mut self, request: Request<'_>, layout: &Layout) -> Result<Slot, QueueError> {
        let segment = request.segment();
        let payload = segment.as_ref().map_or(request.payload(), |segment| &segment[..]);
        let (out, input) = (payload.len(), request.input());
        if out.saturating_add(input as usize) > self.buffer {
            return Err(QueueError::TooLong(out.saturating_add(input as usize)));
        }
        let out = out as u32;
        self.pieces.clear();
        cut(layout, HEADER as u32, out, input, &mut self.pieces);
        let slot = *self.free_slots.front().ok_or(QueueError::Full)?;
        let needed = if layout.indirect { 1 } else { self.pieces.len() };
        if self.free_descriptors.len() < needed {
            return Err(QueueError::Full);
        }
        let header = self.ring.place.header(slot);
        self.ring.memory.copy_out(header, &request.header())?;
        self.ring.memory.copy_out(header + HEADER, payload)?;
        let status = header + HEADER + (out + input) as usize;
        self.ring.memory.copy_out(status, &[STATUS_UNWRITTEN])?;
        let head = match layout.indirect {
            true => self.fill_indirect(slot)?,
            false => self.fill_direct(slot)?,
        };
        self.free_slots.pop_front();
        self.owners[usize::from(head)] = Some(slot);
        self.slots[usize::from(slot)].out = out;
        self.slots[usize::from(slot)].input = input;
        self.outstanding += 1;
        self.ring.publish(head)?;
        Ok(Slot(slot))
    }

    fn descriptor(&self, slot: u16, piece: Piece) -> Descriptor {
        let addr = GUEST_BASE + self.ring.place.header(slot) as u64 + u64::from(piece.offset);
        let flags = if piece.device_writes { WRITE } else { 0 };
        Descriptor { addr, len: piece.len, flags, next: 0 }
    }

    fn fill_direct(&mut self, slot: u16) -> Result<u16, QueueError> {
        let first = self.free_descriptors.len() - self.pieces.len();
        let mut chain = std::mem::take(&mut self.slots[usize::from(slot)].chain);
        chain.extend(self.free_descriptors.drain(first..).rev());
        for (at, piece) in self.pieces.iter().enumerate() {
            let mut descriptor = self.descriptor(slot, *piece);
            if let Some(next) = chain.get(at + 1) {
                descriptor.flags |= NEXT;
                descriptor.next = *next;
            }
            self.ring.set_descriptor(chain[at], descriptor)?;
        }
        let head = chain[0];
        self.slots[usize::from(slot)].chain = chain;
        Ok(head)
    }

    fn fill_indirect(&mut self, slot: u16) -> Result<u16, QueueError> {
        let count = self.pieces.len();
        if count > INDIRECT_ENTRIES {
            return Err(QueueError::TooLong(count));
        }
        let table = self.ring.place.indirect(slot);
        for (at, piece) in self.pieces.iter().enumerate() {
            let mut descriptor = self.descriptor(slot, *piece);
            if at + 1 < count {
                descriptor.flags |= NEXT;
                descriptor.next = at as u16 + 1;
            }
            self.ring.memory.copy_out(table + at * 16, &descriptor.bytes())?;
        }
        let head = self.free_descriptors.pop().ok_or(QueueError::Full)?;
        let (addr, len) = (GUEST_BASE + table as u64, count as u32 * 16);
        self.ring.set_descriptor(head, Descriptor { addr, len, flags: INDIRECT, next: 0 })?;
        self.slots[usize::from(slot)].chain.push(head);
        Ok(head)
    }

    /// Breaks the queue, as a driver gone wrong would: makes more available than it holds.
    pub fn wreck(&mut self) -> Result<(), QueueError> {
        self.ring.jump()?;
        let _ = self.kick.write(1);
        Ok(())
    }

    /// Tells the device of what was submitted, if it wants to be told. Returns whether it did.
    pub fn kick(&mut self) -> bool {
        let wanted = self.ring.wants_kick().unwrap_or(true);
        if wanted {
            let _ = self.kick.write(1);
        }
        wanted
    }

    /// The next completion, if there is one. Its slot may be taken by the next submission.
    pub fn poll(&mut self) -> Result<Option<Completion>, QueueError> {
        let said = self.ring.untaken()?;
        if said > self.outstanding {
            return Err(QueueError::IndexJump { said, outstanding: self.outstanding });
        }
        let Some((head, written)) = self.ring.take_used()? else { return Ok(None) };
        let owner = usize::try_from(head).ok().and_then(|head| self.owners.get_mut(head));
        let slot = owner.and_then(Option::take).ok_or(QueueError::NotInFlight(head))?;
        let done = &mut self.slots[usize::from(slot)];
        self.free_descriptors.extend(done.chain.drain(..).rev());
        let offset = self.ring.place.header(slot) + HEADER + (done.out + done.input) as usize;
        let mut status = [0];
        self.ring.memory.copy_in(offset, &mut status)?;
        self.outstanding -= 1;
        self.free_slots.push_back(slot);
        Ok(Some(Completion { slot: Slot(slot), status: Status::from_byte(status[0]), written }))
    }

    /// As [`Queue::poll`], but waits for the device's call, at most `timeout` (rounded up to
    /// milliseconds). `None`: nothing came.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Completion>, QueueError> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(done) = self.poll()? {
                return Ok(Some(done));
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            self.wait_for_call(deadline)?;
        }
    }

    /// Returns at a call, at the deadline, or without reason.
    fn wait_for_call(&mut self, deadline: Deadline) -> Result<(), QueueError> {
        if self.ring.arm_call()? {
            match self.waiter.wait(deadline.poll_timeout(), &mut [EpollEvent::default()]) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        let _ = self.call.read();
        Ok(self.ring.disarm_call()?)
    }

    /// Copies what the device returned (or what it was given) in a slot, from its first byte. Good
    /// until the slot is taken again.
    pub fn read_data(&self, slot: Slot, to: &mut [u8]) -> Result<(), QueueError> {
        let done = self.slots.get(usize::from(slot.0)).ok_or(QueueError::TooLong(slot.0.into()))?;
        let out = if done.input > 0 { done.out as usize } else { 0 };
        let start = self.ring.place.header(slot.0) + HEADER + out;
        Ok(self.ring.memory.copy_in(start, to)?)
    }
}

#[cfg(test)]
mod tests;
