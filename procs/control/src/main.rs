//! The control process: the API socket of one VM.

fn main() {}
