//! The layout of a secret: a sealed memory object that the supervisor makes and keeps, and never maps.
//!
//! ```text
//! 0     state                           0: a passphrase, 1: a volume key
//! 8     bytes of the passphrase
//! 16    bytes of the volume key
//! 512   the volume key
//! 1024  the passphrase
//! ```
//!
//! The supervisor writes the passphrase. Whoever opens the volume with it puts the volume key in its place:
//! a successor then opens it at once, and the passphrase is nowhere any more.

/// Bytes of a secret.
pub const SECRET_BYTES: u64 = 4096;

/// Longest passphrase in bytes.
pub const LONGEST_PASSPHRASE: usize = 2048;

/// Where the state is.
pub const STATE_AT: usize = 0;

/// Where the length of the passphrase is.
pub const PASSPHRASE_LEN_AT: usize = 8;

/// Where the length of the key is.
pub const KEY_LEN_AT: usize = 16;

/// Where the key is.
pub const KEY_AT: usize = 512;

/// Longest key in bytes.
pub const LONGEST_KEY: usize = 512;

/// Where the passphrase is.
pub const PASSPHRASE_AT: usize = 1024;
