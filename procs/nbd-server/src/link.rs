//! The way to block-layer: ring, arena, doorbells, and who owns which tag.
//!
//! A piece is the part of a client's request that fits one ring request. Law: at most as many pieces are
//! out as the ring has entries; each owns its tag and its span until its completion. A completion that
//! names a tag which is not out blames block-layer.
//!
//! When block-layer is replaced, everything that was out goes to its successor in its old order, each
//! piece in its old span: the book of the arena stays, and what is to be written is copied from the old
//! arena to the new one, which nobody else has seen.

use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest, Operation, STATUS_SPAN};
use bulkhead_ring::{
    Arena, ArenaAllocator, ArenaSpan, Armed, Client, PeerFault, PushError, RingGeometry,
};
use bulkhead_sys::eventfd::Doorbell;

/// This end of a block ring.
pub type BlockClient = Client<BlockRequest, BlockCompletion>;

/// Deaths of block-layer by its own fault that a request may be part of.
const MOST_ATTEMPTS: u8 = 3;

/// `EIO`.
const EIO: u32 = 5;

/// Bytes that are copied at once between two arenas.
const STEP: usize = 16 << 10;

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

/// Which client: its place, and which use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Place in the table of clients.
    pub place: u32,
    /// How often the place was taken before.
    pub uses: u32,
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub owner: Owner,
    /// Which request of its.
    pub request: u16,
    /// What to do.
    pub operation: Operation,
    /// `FLAG_…` of the block ring.
    pub flags: u8,
    /// First byte of the disk.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

impl Piece {
    /// Bytes of the arena that it needs.
    pub fn span(&self) -> u64 {
        match self.operation {
            Operation::Read | Operation::Write => self.len.into(),
            Operation::Status => STATUS_SPAN.into(),
            _ => 0,
        }
    }
}

#[derive(Debug)]
struct Out {
    piece: Piece,
    span: Option<ArenaSpan>,
    /// Order of submission.
    sequence: u64,
    attempts: u8,
}

/// A tag: which place, and which use of it.
#[derive(Debug, Default)]
struct Place {
    uses: u32,
    out: Option<Out>,
}

/// A piece that is over, with its span, which is to be [released](Link::release).
#[derive(Debug)]
pub struct Done {
    /// Which.
    pub piece: Piece,
    /// Where its data is.
    pub span: Option<ArenaSpan>,
    /// How it ended: 0, or the errno.
    pub status: u32,
}

/// The ring as the server uses it.
#[derive(Debug)]
pub struct Link {
    client: BlockClient,
    geometry: RingGeometry,
    book: ArenaAllocator,
    places: Vec<Place>,
    free: Vec<u32>,
    sequence: u64,
    unpublished: bool,
    /// Rung here.
    submit: Doorbell,
    /// Rung by block-layer.
    complete: Doorbell,
    armed: bool,
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
            book: ArenaAllocator::new(client.arena.len()),
            client,
            geometry,
            places: (0..entries).map(|_| Place::default()).collect(),
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

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.client.arena
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

    /// Submits a piece, for which there must be a [tag](Self::has_tag). Block-layer sees it after
    /// [`publish`](Self::publish).
    pub fn submit(&mut self, piece: Piece, span: Option<ArenaSpan>) -> Result<(), LinkFault> {
        let Some(index) = self.free.pop() else { return Ok(()) };
        let out = Out { piece, span, sequence: self.sequence, attempts: 0 };
        self.sequence += 1;
        self.push(index, out)
    }

    fn push(&mut self, index: u32, out: Out) -> Result<(), LinkFault> {
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
        place.out = Some(out);
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
    pub fn next_done(&mut self) -> Result<Option<Done>, LinkFault> {
        let Some(completion) = self.client.complete.pop()? else { return Ok(None) };
        let tag = completion.tag;
        let unknown = LinkFault::UnknownTag(tag);
        let (index, uses) = (tag as u32, (tag >> 32) as u32);
        let place = self.places.get_mut(index as usize).ok_or(unknown)?;
        let out = place.out.take_if(|_| place.uses == uses).ok_or(unknown)?;
        self.free.push(index);
        Ok(Some(Done { piece: out.piece, span: out.span, status: completion.status }))
    }

    /// Block-layer was replaced: takes its new ring and submits what was out. Answers the arena of the old
    /// one, and what was part of too many deaths and is not submitted again.
    pub fn replace(
        &mut self,
        client: BlockClient,
        own_fault: bool,
    ) -> Result<(Arena, Vec<Done>), LinkFault> {
        let old = std::mem::replace(&mut self.client, client).arena;
        self.armed = false;
        let mut out: Vec<(u32, Out)> = (0..)
            .zip(&mut self.places)
            .filter_map(|(index, place)| Some((index, place.out.take()?)))
            .collect();
        out.sort_unstable_by_key(|(_, out)| out.sequence);
        let mut poison = Vec::new();
        for (index, mut out) in out {
            out.attempts += u8::from(own_fault);
            if out.attempts >= MOST_ATTEMPTS {
                self.free.push(index);
                poison.push(Done { piece: out.piece, span: out.span, status: EIO });
                continue;
            }
            if let (Operation::Write, Some(span)) = (out.piece.operation, &out.span) {
                carry_over(&old, &self.client.arena, span, span.len());
            }
            self.push(index, out)?;
        }
        Ok((old, poison))
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

/// Copies the first `len` bytes of a span from one arena to the same place of another.
pub fn carry_over(from: &Arena, to: &Arena, span: &ArenaSpan, len: u64) {
    let mut bytes = [0; STEP];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(STEP as u64);
        let Some(step) = bytes.get_mut(..count as usize) else { return };
        let at = span.offset() + done;
        // Both arenas are of one geometry, which the span was checked against.
        let read = from.check(at, count).and_then(|slice| slice.copy_in(step));
        let _ = read.and_then(|()| to.check(at, count)?.copy_out(step));
        done += count;
    }
}
