//! The ring as its client uses it.

use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest};
use bulkhead_ring::{
    Arena, ArenaAllocator, ArenaSpan, Armed, Client, LONGEST_SPAN, PeerFault, PushError,
    RingGeometry,
};
use bulkhead_sys::eventfd::Doorbell;

use crate::piece::{Done, Piece, Unfinished};

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

/// A tag: which use of its place, and the piece that has it.
#[derive(Debug)]
struct Place<W> {
    uses: u32,
    /// The piece, and when it was submitted.
    out: Option<(Unfinished<W>, u64)>,
}

/// See the [crate].
#[derive(Debug)]
pub struct Link<W> {
    client: BlockClient,
    geometry: RingGeometry,
    book: ArenaAllocator,
    places: Vec<Place<W>>,
    free: Vec<u32>,
    sequence: u64,
    unpublished: bool,
    /// Rung here.
    submit: Doorbell,
    /// Rung by block-layer.
    complete: Doorbell,
    armed: bool,
}

impl<W> Link<W> {
    /// A link over a ring that nobody has used, with its two doorbells.
    pub fn new(
        client: BlockClient,
        geometry: RingGeometry,
        submit: Doorbell,
        complete: Doorbell,
    ) -> Self {
        let entries = geometry.entries();
        Self {
            book: ArenaAllocator::new(client.arena.len()),
            client,
            geometry,
            places: (0..entries).map(|_| Place { uses: 0, out: None }).collect(),
            free: (0..entries).rev().collect(),
            sequence: 0,
            unpublished: false,
            submit,
            complete,
            armed: false,
        }
    }

    /// What its ring looks like.
    pub fn geometry(&self) -> RingGeometry {
        self.geometry
    }

    /// The bell that block-layer rings.
    pub fn bell(&self) -> &Doorbell {
        &self.complete
    }

    /// The arena, to copy from and to.
    pub fn arena(&self) -> &Arena {
        &self.client.arena
    }

    /// Most bytes of a span.
    pub fn longest(&self) -> u64 {
        LONGEST_SPAN.min(self.client.arena.len())
    }

    /// Whether one more piece can be out.
    pub fn has_tag(&self) -> bool {
        !self.free.is_empty()
    }

    /// Pieces that are out.
    pub fn outstanding(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// A span of `len` bytes; `None`: not now.
    pub fn take_span(&mut self, len: u64) -> Option<ArenaSpan> {
        self.book.alloc(len).ok()
    }

    /// Gives a span back.
    pub fn release(&mut self, span: Option<ArenaSpan>) {
        if let Some(span) = span {
            // It is of this book: there is only one.
            let _ = self.book.free(span);
        }
    }

    /// Submits a piece, for which there must be a [tag](Self::has_tag), and whose data, if it writes, is
    /// in its span. Block-layer sees it after [`publish`](Self::publish).
    pub fn submit(&mut self, piece: Piece<W>, span: Option<ArenaSpan>) -> Result<(), LinkFault> {
        self.resubmit(Unfinished { piece, span, attempts: 0 })
    }

    /// The same for one that an earlier block-layer had.
    pub fn resubmit(&mut self, out: Unfinished<W>) -> Result<(), LinkFault> {
        let Some(index) = self.free.pop() else { return Ok(()) };
        let Some(place) = self.places.get_mut(index as usize) else { return Ok(()) };
        place.uses = place.uses.wrapping_add(1);
        let request = BlockRequest {
            tag: u64::from(place.uses) << 32 | u64::from(index),
            offset: out.piece.offset,
            span: out.span.as_ref().map_or(0, |span| span.offset() as u32),
            len: out.piece.len,
            operation: out.piece.operation.code(),
            flags: out.piece.flags,
            reserved: [0; 6],
        };
        place.out = Some((out, self.sequence));
        self.sequence += 1;
        self.unpublished = true;
        match self.client.submit.push(request) {
            Ok(()) => Ok(()),
            Err(PushError::Peer(fault)) => Err(fault.into()),
            // Not possible while block-layer takes what it completes: as many tags as entries.
            Err(PushError::Full) => Err(LinkFault::UnknownTag(request.tag)),
        }
    }

    /// Shows block-layer what was submitted, and wakes it if it sleeps.
    pub fn publish(&mut self) {
        if std::mem::take(&mut self.unpublished) {
            self.client.submit.publish().ring(&self.submit);
        }
    }

    /// The next completion.
    pub fn next_done(&mut self) -> Result<Option<Done<W>>, LinkFault> {
        let Some(completion) = self.client.complete.pop()? else { return Ok(None) };
        let tag = completion.tag;
        let unknown = LinkFault::UnknownTag(tag);
        let (index, uses) = (tag as u32, (tag >> 32) as u32);
        let place = self.places.get_mut(index as usize).ok_or(unknown)?;
        let (out, _) = place.out.take_if(|_| place.uses == uses).ok_or(unknown)?;
        self.free.push(index);
        Ok(Some(Done { piece: out.piece, span: out.span, status: completion.status }))
    }

    /// Block-layer was replaced: takes its new ring, and answers the arena of the old one and what was
    /// out, in the order in which it was submitted. Spans keep their places: the book of the arena stays,
    /// as both arenas are of one geometry. Nothing of the old ring is looked at again.
    pub fn replace(&mut self, client: BlockClient) -> (Arena, Vec<Unfinished<W>>) {
        let old = std::mem::replace(&mut self.client, client).arena;
        (self.armed, self.unpublished) = (false, false);
        let mut out: Vec<_> = self.places.iter_mut().filter_map(|place| place.out.take()).collect();
        out.sort_unstable_by_key(|(_, sequence)| *sequence);
        self.free = (0..self.places.len() as u32).rev().collect();
        (old, out.into_iter().map(|(out, _)| out).collect())
    }

    /// Whether block-layer last ran on the CPU of this thread.
    pub fn shares_cpu(&mut self) -> bool {
        bulkhead_sys::cpu::current().is_none_or(|cpu| self.client.cpus.shared(cpu))
    }

    /// Whether a completion is there.
    pub fn is_ready(&mut self) -> Result<bool, LinkFault> {
        Ok(self.client.complete.ready()?)
    }

    /// Asks to be woken by the next completion; `false`: one is there.
    pub fn arm(&mut self) -> Result<bool, LinkFault> {
        self.armed = self.client.complete.arm()? == Armed::Sleep;
        Ok(self.armed)
    }

    /// Awake again.
    pub fn disarm(&mut self) {
        if self.armed {
            self.armed = false;
            self.client.complete.disarm();
        }
    }
}

#[cfg(test)]
mod tests;
