//! The vhost-console process: virtio-console over one stream socket.

fn main() {}
