//! The launcher: starts every child of a VM inside its jail.

fn main() {}
