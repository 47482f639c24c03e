//! The vhost-rng process: entropy for the guest.

fn main() {}
