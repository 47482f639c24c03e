//! Checks of the project's own shape: import law, files' openings, the size of the release graph.
//!
//! The checks are tests (`tests/`); this crate has no code of its own.
#![forbid(unsafe_code)]
