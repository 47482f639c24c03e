//! LUKS, version 1: what cryptsetup and QEMU's `luks` driver write, and what they read.
//!
//! ```text
//! passphrase ──PBKDF2──▶ slot's key ──decrypts──▶ split key ──merge──▶ volume key ──▶ every sector
//!               (slow on purpose)                 (4000 stripes)         │
//!                                                        PBKDF2 of it is in the header
//! ```
//!
//! Called where a chain is opened ([`Volume::unlock`]) and where an image is made ([`create()`]). The sectors
//! themselves are the business of a [`LuksLayer`](crate::qcow2::LuksLayer), or of a qcow2 image that has such
//! a header inside.
//!
//! Law: a header is an allegation. Nothing is allocated or computed by its word beyond the limits of
//! [`header`], and every secret is wiped from memory by whoever drops it.
//!
//! Absent on purpose: version 2 (its header is JSON, and its key derivation takes a gigabyte of memory);
//! ciphers other than AES; detached headers; changing slots, which is cryptsetup's and qemu-img's business.
//! See the LUKS On-Disk Format Specification 1.2.3.

pub mod cipher;
mod create;
pub mod header;
mod sectors;
mod split;
mod unlock;

pub use cipher::Cipher;
pub use create::{CreateError, Wanted, create};
pub use header::{Header, HeaderError};
pub use sectors::Sectors;
pub use unlock::{UnlockError, Volume};

use zeroize::Zeroizing;

/// Bytes that nobody finds in memory afterwards.
pub type Secret = Zeroizing<Vec<u8>>;

/// What is encrypted together.
pub const SECTOR: u64 = 512;

#[cfg(test)]
mod tests;
