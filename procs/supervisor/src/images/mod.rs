//! Disk images: which files a disk consists of, who may use one at a time, and who uses it now.

pub mod chain;
pub mod fresh;
pub mod lock;
pub mod owner;
pub mod remote;
pub mod take;
