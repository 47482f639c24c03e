//! Tests with other people's programs at the other end: QEMU as the frontend of our disks.
//!
//! The tests are in `tests/`.
#![forbid(unsafe_code)]
