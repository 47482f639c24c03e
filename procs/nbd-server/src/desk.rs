//! What the clients share.

use std::time::Instant;

use bulkhead_block_client::LinkFault;
use bulkhead_ring::ArenaSpan;

use crate::export::Export;
use crate::limits::{BATCH_BYTES, BATCH_PIECES};
use crate::owner::{BlockLink, ClientPiece};
use crate::share::Pool;

/// What a client needs beside its own things to be served.
#[derive(Debug)]
pub struct Desk {
    /// The way to block-layer.
    pub link: BlockLink,
    /// What is left of the arena.
    pub pool: Pool,
    /// The export.
    pub export: Export,
    /// What time it is: that of the turn.
    pub now: Instant,
    /// Requests answered.
    pub completed: u64,
    /// Set when a part of the arena came back: others may wait for it.
    pub freed: bool,
    batch: Batch,
}

/// What went on the ring since block-layer was last shown it.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    pieces: u32,
    bytes: u64,
}

impl Desk {
    /// Nobody has been served yet.
    pub fn new(export: Export, link: BlockLink) -> Self {
        let pool = Pool::new(link.geometry().arena_len());
        Self {
            link,
            pool,
            export,
            now: Instant::now(),
            completed: 0,
            freed: false,
            batch: Batch::default(),
        }
    }

    /// Submits a piece. Block-layer sees it with the others of the batch.
    pub fn submit(&mut self, piece: ClientPiece, span: Option<ArenaSpan>) -> Result<(), LinkFault> {
        self.batch.pieces += 1;
        self.batch.bytes += span.as_ref().map_or(0, ArenaSpan::len);
        self.link.submit(piece, span)
    }

    /// Whether so much went on the ring that block-layer should have a look at it before there is more:
    /// it then reads for the first requests while the others are taken, and their clients have their
    /// answers while the others are read for.
    pub fn has_batch(&self) -> bool {
        self.batch.pieces >= BATCH_PIECES || self.batch.bytes >= BATCH_BYTES
    }

    /// Shows block-layer the batch.
    pub fn publish(&mut self) {
        self.batch = Batch::default();
        self.link.publish();
    }
}
