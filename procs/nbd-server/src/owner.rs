//! Whose a piece is.

use bulkhead_block_client::{Done, Link, Piece};

/// Which client: its place, and which use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Place in the table of clients.
    pub place: u32,
    /// How often the place was taken before.
    pub uses: u32,
}

/// Which client's, and of which of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// Whose.
    pub owner: Owner,
    /// Which request of its.
    pub request: u16,
}

/// The way to block-layer.
pub type BlockLink = Link<Whose>;

/// A part of a client's request.
pub type ClientPiece = Piece<Whose>;

/// Such a part that is over.
pub type ClientDone = Done<Whose>;
