//! How often a request was in flight when a process died of it.
//!
//! The successor counts: it adds one to each request that it finds, but only if its predecessor (or
//! the block layer behind it) died by a fault of its own. Any completed request is progress and sets
//! all counts back, so that only deaths in a row are counted.

/// Deaths in a row after which a request is answered with an error instead of being tried again.
pub(crate) const POISON: u8 = 3;

/// Deaths in a row after which a request is given back without even reading it: reading is what
/// kills.
pub(crate) const HOPELESS: u8 = 5;
