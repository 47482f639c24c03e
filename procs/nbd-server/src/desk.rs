//! What the clients share.

use std::time::Instant;

use crate::export::Export;
use crate::owner::BlockLink;
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
}

impl Desk {
    /// Nobody has been served yet.
    pub fn new(export: Export, link: BlockLink) -> Self {
        let pool = Pool::new(link.geometry().arena_len());
        Self { link, pool, export, now: Instant::now(), completed: 0, freed: false }
    }
}
