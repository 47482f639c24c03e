//! Metadata contexts ("Metadata querying"): what of a range a client may ask for by block status.
//!
//! Names are `NAMESPACE:LEAF`. A query may be a whole name, or in a list a namespace with nothing behind
//! its colon, which asks for all of it.

/// `base:allocation`: whether the range takes room and whether it reads as zeroes.
pub const ALLOCATION: &str = "base:allocation";

/// `qemu:allocation-depth`: which layer of a chain has it, 1 being the first and 0 none.
pub const DEPTH: &str = "qemu:allocation-depth";

/// `qemu:dirty-bitmap:` and the name of a bitmap: whether it was written since.
pub const BITMAP: &str = "qemu:dirty-bitmap:";

/// `NBD_STATE_HOLE` of `base:allocation`.
pub const HOLE: u32 = 1;

/// `NBD_STATE_ZERO` of `base:allocation`.
pub const ZERO: u32 = 2;

/// `NBD_STATE_DIRTY` of a bitmap.
pub const DIRTY: u32 = 1;

/// Whether a query of `NBD_OPT_LIST_META_CONTEXT` asks for `name`: by it, or by a part of it that ends
/// with a colon.
pub fn asks_for(query: &str, name: &str) -> bool {
    query == name || (query.ends_with(':') && name.starts_with(query))
}
