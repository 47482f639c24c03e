//! The two ends of a pair of rings: who submits and who completes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhead_sys::mapping::{OutOfMapping, SharedMapping};

use crate::arena::Arena;
use crate::attach::{AttachError, attach};
use crate::entry::Entry;
use crate::geometry::{CLIENT_CPU_AT, RingGeometry, SERVER_CPU_AT};
use crate::mapped::{MappedLines, Word};
use crate::roles::{Consumer, Producer};

/// The end that submits requests `S` and gets completions `C`. It alone hands out arena space
/// ([`ArenaAllocator`](crate::ArenaAllocator)).
///
/// Law: at most [`RingGeometry::entries`] requests outstanding.
#[derive(Debug)]
pub struct Client<S, C> {
    /// Requests to the server.
    pub submit: Producer<S>,
    /// What the server finished.
    pub complete: Consumer<C>,
    /// Data of both.
    pub arena: Arena,
    /// Where the two ends run.
    pub cpus: Cpus,
}

impl<S: Entry, C: Entry> Client<S, C> {
    /// Maps a ring that nobody has used as its client. The descriptor may be closed afterwards.
    pub fn attach(
        fd: impl AsFd,
        geometry: RingGeometry,
        incarnation: u64,
    ) -> Result<Self, AttachError> {
        let mapping = attach(fd, geometry, incarnation)?;
        let entries = geometry.entries();
        Ok(Self {
            submit: Producer::new(MappedLines::new(&mapping, geometry.submission(), entries)?),
            complete: Consumer::new(MappedLines::new(&mapping, geometry.completion(), entries)?),
            cpus: Cpus::new(&mapping, CLIENT_CPU_AT, SERVER_CPU_AT)?,
            arena: Arena::new(mapping, geometry),
        })
    }
}

/// The end that gets requests `S` and completes them with `C`, in any order.
#[derive(Debug)]
pub struct Server<S, C> {
    /// Requests of the client.
    pub submit: Consumer<S>,
    /// What is finished. Full only for a client that breaks its law.
    pub complete: Producer<C>,
    /// Data of both.
    pub arena: Arena,
    /// Where the two ends run.
    pub cpus: Cpus,
}

impl<S: Entry, C: Entry> Server<S, C> {
    /// Maps a ring that nobody has used as its server. The descriptor may be closed afterwards.
    pub fn attach(
        fd: impl AsFd,
        geometry: RingGeometry,
        incarnation: u64,
    ) -> Result<Self, AttachError> {
        let mapping = attach(fd, geometry, incarnation)?;
        let entries = geometry.entries();
        Ok(Self {
            submit: Consumer::new(MappedLines::new(&mapping, geometry.submission(), entries)?),
            complete: Producer::new(MappedLines::new(&mapping, geometry.completion(), entries)?),
            cpus: Cpus::new(&mapping, SERVER_CPU_AT, CLIENT_CPU_AT)?,
            arena: Arena::new(mapping, geometry),
        })
    }
}

/// On which CPU each end last said it runs: a hint for [`Pace`](crate::Pace), nothing else. A peer
/// that lies about it makes us spin for microseconds or sleep at once.
#[derive(Debug)]
pub struct Cpus {
    own: Word,
    peer: Word,
    /// What `own` holds, so that it is stored only when it changes.
    said: u32,
}

impl Cpus {
    fn new(mapping: &Arc<SharedMapping>, own: usize, peer: usize) -> Result<Self, OutOfMapping> {
        Ok(Self { own: Word::new(mapping, own)?, peer: Word::new(mapping, peer)?, said: 0 })
    }

    /// Tells the peer that this end runs on `cpu`, and answers whether the peer last ran there too.
    /// While the peer has said nothing the answer is `true`, the careful one: no spinning.
    pub fn shared(&mut self, cpu: usize) -> bool {
        // 0 is what an unused ring holds, so CPUs are counted from 1.
        let number = u32::try_from(cpu).map_or(0, |cpu| cpu.wrapping_add(1));
        if self.said != number {
            self.said = number;
            self.own.get().store(number, Ordering::Relaxed);
        }
        let peer = self.peer.get().load(Ordering::Relaxed);
        peer == 0 || peer == number
    }
}
