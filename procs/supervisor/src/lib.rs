//! The supervisor: spec, plan, live; restarts, fences, tears down.
#![forbid(unsafe_code)]

pub mod attest;
pub mod cgroup;
pub mod dial;
pub mod fence;
pub mod heartbeat;
pub mod host;
pub mod images;
pub mod leftovers;
pub mod listener;
pub mod live;
pub mod open;
pub mod order;
pub mod placement;
pub mod plan;
pub mod refusal;
pub mod restart;
pub mod rundir;
pub mod signals;
pub mod timers;
