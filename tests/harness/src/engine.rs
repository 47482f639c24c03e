//! The software CPU that guests of tests run on.
//!
//! It is the default one, or what `BULKHEAD_TEST_CPU` says: so that a whole suite can be run with the other.

const VARIABLE: &str = "BULKHEAD_TEST_CPU";

/// What a test says where it says `--cpu`.
pub fn software() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| "soft".to_owned())
}

/// The same with one more key.
pub fn software_with(key: &str) -> String {
    format!("{},{key}", software())
}

/// The class of the process that executes the guest then.
pub fn class() -> &'static str {
    if software().contains("jit=off") { "soft-cpu" } else { "soft-cpu-jit" }
}
