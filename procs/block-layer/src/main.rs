//! The block-layer process: one executor, one graph, image descriptors and no guest memory.

fn main() {}
