//! What a dead helper may cost: a pause. Never a write, never its order, never an error.
//!
//! A frontend on the host writes stamped blocks over two queues to a `bulkhead storage` whose sealed
//! processes are killed meanwhile, and keeps book of what was acknowledged ([`ledger`]). Each
//! acknowledged block is read back or overwritten at once: a replayed write that lands late would lie
//! on top of a newer one, and every later read of the block shows it.
//!
//! Law: nothing here asserts how long anything takes. Pauses are printed for people.
#![forbid(unsafe_code)]

pub mod driver;
pub mod fault;
pub mod graph;
pub mod image;
pub mod killer;
pub mod ledger;
pub mod neighbour;
pub mod pages;
pub mod pauses;
pub mod scene;
pub mod stamp;
pub mod throttle;
pub mod witness;

/// Kills of each kind: 50, or what `BULKHEAD_KILLS` says (`make soak`: 1,000).
pub fn kills() -> u64 {
    let said = std::env::var("BULKHEAD_KILLS").ok().and_then(|kills| kills.parse().ok());
    said.unwrap_or(50)
}
