//! The core process: vCPUs and guest memory.

fn main() {}
