//! Jobs in memory: what they leave behind, races with requests, crashes and deaths, errors.

mod crash;
mod errors;
mod faults;
mod patience;
mod race;
mod results;
pub(crate) mod rig;
