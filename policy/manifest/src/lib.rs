//! The manifest of a process class: its authority as data, read from a TOML profile.
//!
//! One file, `policy/profiles/<class>.toml`, says all that a process of the class may do, with a
//! reason per line. This crate reads such a file into a [`Manifest`], resolves its symbolic numbers,
//! and holds it against the [`law`]. Called by the build of `seccomp` (filters) and of `jail`
//! (limits), by the supervisor's attestation and by `bulkhead policy` and `bulkhead audit`.
//!
//! Law: an unknown key, an unknown name, a missing reason or a rule without its arguments is an
//! error, never a default. The profiles are part of the program text ([`profile`]), so that a file on
//! disk can widen nothing.
#![forbid(unsafe_code)]

mod budget;
pub mod constants;
pub mod filter;
pub mod holding;
pub mod law;
pub mod limits;
mod manifest;
pub mod numbers;
mod profiles;
pub mod rule;
pub mod value;
pub mod waits;

pub use budget::budget;
pub use manifest::{
    Capabilities, CodeMemory, Extent, GuestMemory, Landlock, Manifest, ManifestError, Namespace,
    OnDeath, Restart, Rights,
};
pub use profiles::{CLASSES, PROFILES, THREADS, profile, text};

#[cfg(test)]
mod tests;
