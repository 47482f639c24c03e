//! Ring and record of either kind, always used together.

use bulkhead_memory::GuestMemory;
use bulkhead_virtqueue::{
    Chain, PackedDescriptor, PackedQueue, QueueFault, QueueSetup, SplitPosition, SplitQueue,
};

use super::position::{pack, split_available, unpack};
use super::start::{QueueStart, StartFault};
use crate::inflight::{PackedRecord, SplitRecord};

/// A request that the device has in its hands. It is given back once, by
/// [`LiveQueue::complete`](super::LiveQueue::complete).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Head (split) or buffer id (packed).
    id: u16,
    /// Places in the ring.
    slots: u16,
    /// Entry in the record.
    entry: u16,
}

/// A request that a predecessor had in flight.
#[derive(Debug)]
pub(super) enum Replay {
    Split { head: u16 },
    Packed { entry: u16, descriptors: Vec<PackedDescriptor> },
}

impl Replay {
    /// By which entry the record knows it.
    fn entry(&self) -> u16 {
        match self {
            Self::Split { head } => *head,
            Self::Packed { entry, .. } => *entry,
        }
    }
}

/// A served ring with its record, if in-flight tracking was negotiated.
#[derive(Debug)]
pub(super) enum Ring {
    Split { queue: SplitQueue, record: Option<SplitRecord> },
    Packed { queue: PackedQueue, record: Option<PackedRecord> },
}

impl Ring {
    /// Takes up a ring; answers also what was in flight, last taken first.
    pub(super) fn start(start: &QueueStart) -> Result<(Self, Vec<Replay>), StartFault> {
        let (ring, mut replays) = match start.packed {
            false => start_split(start)?,
            true => start_packed(start)?,
        };
        replays.reverse();
        Ok((ring, replays))
    }

    pub(super) fn remap(
        &mut self,
        memory: &GuestMemory,
        setup: &QueueSetup,
    ) -> Result<(), QueueFault> {
        match self {
            Self::Split { queue, .. } => queue.remap(memory, setup),
            Self::Packed { queue, .. } => queue.remap(memory, setup),
        }
    }

    pub(super) fn in_flight(&self) -> u16 {
        match self {
            Self::Split { queue, .. } => queue.in_flight(),
            Self::Packed { queue, .. } => queue.in_flight(),
        }
    }

    #[inline]
    pub(super) fn take(
        &mut self,
        memory: &GuestMemory,
        chain: &mut Chain,
    ) -> Result<Option<Token>, QueueFault> {
        match self {
            Self::Split { queue, record } => {
                if !queue.take(memory, chain)? {
                    return Ok(None);
                }
                let id = chain.id();
                if let Some(record) = record {
                    record.take(id);
                }
                Ok(Some(Token { id, slots: 1, entry: id }))
            }
            Self::Packed { queue, record } => {
                if !queue.take(memory, chain)? {
                    return Ok(None);
                }
                let (id, slots) = (chain.id(), chain.slots());
                // The record has as many entries as the ring has places, so one is free.
                let entry = record.as_mut().map_or(Some(0), |record| record.take(chain.ring()));
                Ok(Some(Token { id, slots, entry: entry.unwrap_or(0) }))
            }
        }
    }

    pub(super) fn take_again(
        &mut self,
        memory: &GuestMemory,
        replay: &Replay,
        chain: &mut Chain,
    ) -> Result<Token, QueueFault> {
        match (self, replay) {
            (Self::Split { queue, .. }, Replay::Split { head }) => {
                queue.take_again(memory, *head, chain)?;
            }
            (Self::Packed { queue, .. }, Replay::Packed { descriptors, .. }) => {
                queue.take_again(memory, descriptors, chain)?;
            }
            // Replays are made with their ring.
            _ => return Err(QueueFault::InFlight(replay.entry())),
        }
        Ok(Token { id: chain.id(), slots: chain.slots(), entry: replay.entry() })
    }

    /// Takes a request of a predecessor without reading it.
    pub(super) fn take_unread(&mut self, replay: &Replay) -> Result<Token, QueueFault> {
        let (id, slots) = match (self, replay) {
            (Self::Split { queue, .. }, Replay::Split { head }) => {
                queue.take_unread(*head)?;
                (*head, 1)
            }
            (Self::Packed { queue, .. }, Replay::Packed { descriptors, .. }) => {
                let slots = descriptors.len() as u16;
                queue.take_unread(slots)?;
                (descriptors.last().map_or(0, |last| last.id()), slots)
            }
            _ => return Err(QueueFault::InFlight(replay.entry())),
        };
        Ok(Token { id, slots, entry: replay.entry() })
    }

    /// Puts the request that was taken last back.
    pub(super) fn untake(&mut self, token: Token) {
        match self {
            Self::Split { queue, record } => {
                if let Some(record) = record {
                    record.untake(token.entry);
                }
                queue.untake(token.id);
            }
            Self::Packed { queue, record } => {
                if let Some(record) = record {
                    record.untake(token.entry);
                }
                queue.untake(token.slots);
            }
        }
    }

    /// Gives a request back; a split ring shows it when it is published.
    #[inline]
    pub(super) fn give_back(&mut self, token: Token, written: u32) -> Result<(), QueueFault> {
        match self {
            Self::Split { queue, record } => {
                queue.give_back(token.id, written)?;
                if let Some(record) = record {
                    record.give_back(token.entry);
                }
            }
            Self::Packed { queue, record } => {
                if let Some(record) = record {
                    record.prepare(token.entry, token.slots);
                }
                queue.give_back(token.id, token.slots, written)?;
                if let Some(record) = record {
                    record.commit(token.entry);
                }
            }
        }
        Ok(())
    }

    /// Shows the driver what was given back; answers whether it wants a call.
    #[inline]
    pub(super) fn publish(&mut self) -> Result<bool, QueueFault> {
        match self {
            Self::Split { queue, record } => {
                let used = queue.publish()?;
                if let Some(record) = record {
                    record.commit(used);
                }
                queue.wants_call()
            }
            Self::Packed { queue, .. } => queue.wants_call(),
        }
    }

    pub(super) fn forgo_kicks(&mut self) -> Result<(), QueueFault> {
        match self {
            Self::Split { queue, .. } => queue.forgo_kicks(),
            Self::Packed { queue, .. } => queue.forgo_kicks(),
        }
    }

    pub(super) fn want_kicks(&mut self) -> Result<bool, QueueFault> {
        match self {
            Self::Split { queue, .. } => queue.want_kicks(),
            Self::Packed { queue, .. } => queue.want_kicks(),
        }
    }

    /// The position as vhost-user passes it.
    pub(super) fn base(&self) -> u32 {
        match self {
            Self::Split { queue, .. } => queue.position().available.into(),
            Self::Packed { queue, .. } => {
                let (available, used) = queue.position();
                pack(available, used)
            }
        }
    }

    pub(super) fn count_attempt(&self, entry: u16) {
        match self {
            Self::Split { record: Some(record), .. } => record.count_attempt(entry),
            Self::Packed { record: Some(record), .. } => record.count_attempt(entry),
            _ => {}
        }
    }

    pub(super) fn attempts(&self, entry: u16) -> u8 {
        match self {
            Self::Split { record: Some(record), .. } => record.attempts(entry),
            Self::Packed { record: Some(record), .. } => record.attempts(entry),
            _ => 0,
        }
    }

    pub(super) fn forgive(&self) {
        match self {
            Self::Split { record: Some(record), .. } => record.forgive(),
            Self::Packed { record: Some(record), .. } => record.forgive(),
            _ => {}
        }
    }
}

impl Replay {
    /// Attempts that the record counts for it.
    pub(super) fn attempts(&self, ring: &Ring) -> u8 {
        ring.attempts(self.entry())
    }

    /// Counts one attempt more.
    pub(super) fn count_attempt(&self, ring: &Ring) {
        ring.count_attempt(self.entry());
    }
}

impl Token {
    /// Counts one attempt more; answers how many there were.
    pub(super) fn count_attempt(self, ring: &Ring) -> u8 {
        ring.count_attempt(self.entry);
        ring.attempts(self.entry)
    }
}

fn start_split(start: &QueueStart) -> Result<(Ring, Vec<Replay>), StartFault> {
    let (memory, setup) = (&start.memory, &start.setup);
    // The position is not known before the record is read, which needs the ring's used index.
    let probe = SplitQueue::new(memory, setup, SplitPosition { available: 0, used: 0 })?;
    let used = probe.used_in_memory()?;
    let fresh = SplitPosition { available: split_available(start.base), used };
    let Some(table) = &start.table else {
        let queue = SplitQueue::new(memory, setup, fresh)?;
        return Ok((Ring::Split { queue, record: None }, Vec::new()));
    };
    let (record, recovery) = SplitRecord::open(table, start.index, setup.size, used)?;
    let (position, heads) = match recovery {
        None => (fresh, Vec::new()),
        Some(recovery) => (SplitPosition { available: recovery.available(), used }, recovery.heads),
    };
    let queue = SplitQueue::new(memory, setup, position)?;
    let replays = heads.into_iter().map(|head| Replay::Split { head }).collect();
    Ok((Ring::Split { queue, record: Some(record) }, replays))
}

fn start_packed(start: &QueueStart) -> Result<(Ring, Vec<Replay>), StartFault> {
    let (memory, setup) = (&start.memory, &start.setup);
    let (available, used) = unpack(start.base);
    let probe = PackedQueue::new(memory, setup, available, used)?;
    let Some(table) = &start.table else {
        return Ok((Ring::Packed { queue: probe, record: None }, Vec::new()));
    };
    let unused = |place| probe.is_available(place).map_err(StartFault::from);
    let (record, recovery) = PackedRecord::open(table, start.index, setup.size, used, unused)?;
    let Some(recovery) = recovery else {
        return Ok((Ring::Packed { queue: probe, record: Some(record) }, Vec::new()));
    };
    let available = recovery.available(setup.size);
    let queue = PackedQueue::new(memory, setup, available, recovery.used)?;
    let replay = |request: &crate::inflight::PackedRequest| Replay::Packed {
        entry: request.entry,
        descriptors: record.descriptors(request),
    };
    let replays = recovery.requests.iter().map(replay).collect();
    Ok((Ring::Packed { queue, record: Some(record) }, replays))
}
