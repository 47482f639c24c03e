//! The supervisor: spec, plan, live; restarts, fences, tears down.

fn main() {}
