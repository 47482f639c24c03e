//! Tests with other people's programs at the other end: QEMU as the frontend of our disks, QEMU's and
//! rust-vmm's daemons as backends of our core.
//!
//! The tests are in `tests/`.
#![forbid(unsafe_code)]
