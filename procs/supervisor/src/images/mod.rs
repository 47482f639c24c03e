//! Disk images: who may use one at a time, and who uses it now.

pub mod lock;
pub mod owner;
