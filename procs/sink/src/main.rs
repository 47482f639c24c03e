//! The sink process: keeps a detached VM's console output.

fn main() {}
