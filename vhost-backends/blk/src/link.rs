//! The way to block-layer: ring, arena, doorbells, and who owns which tag.
//!
//! A piece is the part of a request that fits one ring request. Law: at most as many pieces are out as
//! the ring has entries; each owns its tag and its span until its completion. A completion that names
//! a tag which is not out blames block-layer.

use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest, Operation};
use bulkhead_ring::{
    Arena, ArenaAllocator, ArenaSpan, Armed, Client, LONGEST_SPAN, NoSpan, PeerFault, PushError,
    RingGeometry,
};
use bulkhead_sys::eventfd::Doorbell;

/// This end of a block ring.
pub type BlockClient = Client<BlockRequest, BlockCompletion>;

/// What block-layer can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// Its index is impossible.
    #[error(transparent)]
    Index(#[from] PeerFault),
    /// It completed what it was not given.
    #[error("completion of {0:#x}, which is not out")]
    UnknownTag(u64),
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which request of the queue.
    pub(crate) request: u32,
    pub(crate) operation: Operation,
    pub(crate) flags: u8,
    /// First byte in the image.
    pub(crate) offset: u64,
    /// First byte in the request's data.
    pub(crate) from: u64,
    /// Bytes.
    pub(crate) len: u32,
}

impl Piece {
    /// Whether data goes through the arena.
    pub(crate) fn has_data(&self) -> bool {
        matches!(self.operation, Operation::Read | Operation::Write)
    }
}

/// A piece that is out.
#[derive(Debug)]
struct Out {
    piece: Piece,
    span: Option<ArenaSpan>,
    /// Order of submission.
    sequence: u64,
}

/// A tag: which place, and which use of it.
#[derive(Debug, Default)]
struct Place {
    uses: u32,
    out: Option<Out>,
}

/// The ring as its queue uses it.
#[derive(Debug)]
pub struct Link {
    client: BlockClient,
    arena: ArenaAllocator,
    places: Vec<Place>,
    free: Vec<u32>,
    sequence: u64,
    /// Rung here.
    submit: Doorbell,
    /// Rung by block-layer.
    pub(crate) complete: Doorbell,
    armed: bool,
}

/// A completed piece, and the span that still holds its data; to be [released](Link::release).
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) piece: Piece,
    pub(crate) span: Option<ArenaSpan>,
    pub(crate) failed: bool,
}

impl Link {
    /// A link over a ring that nobody has used, with its two doorbells.
    pub fn new(
        client: BlockClient,
        geometry: RingGeometry,
        submit: Doorbell,
        complete: Doorbell,
    ) -> Self {
        let entries = geometry.entries();
        Self {
            arena: ArenaAllocator::new(client.arena.len()),
            client,
            places: (0..entries).map(|_| Place::default()).collect(),
            free: (0..entries).rev().collect(),
            sequence: 0,
            submit,
            complete,
            armed: false,
        }
    }

    /// Most bytes of a piece that has data.
    pub(crate) fn longest(&self) -> u64 {
        LONGEST_SPAN.min(self.client.arena.len())
    }

    /// The arena, to copy from and to.
    pub(crate) fn arena(&self) -> &Arena {
        &self.client.arena
    }

    /// Room for a piece: a tag and, if it has data, a span. `None`: not now, a completion makes room.
    pub(crate) fn reserve(&mut self, piece: &Piece) -> Option<Option<ArenaSpan>> {
        if self.free.is_empty() {
            return None;
        }
        if !piece.has_data() {
            return Some(None);
        }
        match self.arena.alloc(piece.len.into()) {
            Ok(span) => Some(Some(span)),
            // No other error is possible: pieces have 1 to `longest` bytes.
            Err(NoSpan::Exhausted(_) | NoSpan::Empty | NoSpan::TooLong(_)) => None,
        }
    }

    /// Submits a piece whose data, if it writes, is in its span. Block-layer sees it after
    /// [`publish`](Self::publish).
    pub(crate) fn submit(
        &mut self,
        piece: Piece,
        span: Option<ArenaSpan>,
    ) -> Result<(), LinkFault> {
        let Some(index) = self.free.pop() else { return Ok(()) };
        let Some(place) = self.places.get_mut(index as usize) else { return Ok(()) };
        place.uses = place.uses.wrapping_add(1);
        let request = BlockRequest {
            tag: u64::from(place.uses) << 32 | u64::from(index),
            offset: piece.offset,
            span: span.as_ref().map_or(0, |span| span.offset() as u32),
            len: piece.len,
            operation: piece.operation.code(),
            flags: piece.flags,
            reserved: [0; 6],
        };
        place.out = Some(Out { piece, span, sequence: self.sequence });
        self.sequence += 1;
        match self.client.submit.push(request) {
            Ok(()) => Ok(()),
            Err(PushError::Peer(fault)) => Err(fault.into()),
            // Not possible while block-layer takes what it completes: as many tags as entries.
            Err(PushError::Full) => Err(LinkFault::UnknownTag(request.tag)),
        }
    }

    /// Shows block-layer what was submitted, and wakes it if it sleeps.
    pub(crate) fn publish(&mut self) {
        self.client.submit.publish().ring(&self.submit);
    }

    /// The next completion.
    pub(crate) fn next_done(&mut self) -> Result<Option<Done>, LinkFault> {
        let Some(completion) = self.client.complete.pop()? else { return Ok(None) };
        let tag = completion.tag;
        let unknown = LinkFault::UnknownTag(tag);
        let (index, uses) = (tag as u32, (tag >> 32) as u32);
        let place = self.places.get_mut(index as usize).ok_or(unknown)?;
        let out = place.out.take_if(|_| place.uses == uses).ok_or(unknown)?;
        self.free.push(index);
        Ok(Some(Done { piece: out.piece, span: out.span, failed: completion.status != 0 }))
    }

    /// Gives a span back.
    pub(crate) fn release(&mut self, span: Option<ArenaSpan>) {
        if let Some(span) = span {
            // Spans are of this arena: those of a replaced one were dropped with it.
            let _ = self.arena.free(span);
        }
    }

    /// Block-layer was replaced: takes its new ring, and answers what was out in the order in which
    /// it was submitted. Nothing of the old ring is looked at again.
    pub(crate) fn replace(&mut self, client: BlockClient) -> Vec<Piece> {
        let mut out: Vec<Out> =
            self.places.iter_mut().filter_map(|place| place.out.take()).collect();
        out.sort_unstable_by_key(|out| out.sequence);
        self.arena = ArenaAllocator::new(client.arena.len());
        self.free = (0..self.places.len() as u32).rev().collect();
        self.client = client;
        self.armed = false;
        out.into_iter().map(|out| out.piece).collect()
    }

    /// Whether block-layer last ran on the CPU of this thread.
    pub(crate) fn shares_cpu(&mut self) -> bool {
        bulkhead_sys::cpu::current().is_none_or(|cpu| self.client.cpus.shared(cpu))
    }

    /// Asks to be woken by the next completion; `false`: one is there.
    pub(crate) fn arm(&mut self) -> Result<bool, LinkFault> {
        self.armed = self.client.complete.arm()? == Armed::Sleep;
        Ok(self.armed)
    }

    /// Awake again.
    pub(crate) fn disarm(&mut self) {
        if self.armed {
            self.armed = false;
            self.client.complete.disarm();
        }
    }
}
