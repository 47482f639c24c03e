//! The vhost-blk process: virtio-blk requests in, block-ring requests out.

fn main() {}
