//! The jail: what a child is put in between its clone and its exec.
//!
//! Called by the launcher alone. Two processes work at it, and the parts are files of their own:
//!
//! ```text
//! launcher                                child
//!   Birth::begin: clone ----------------->|  (user and pid namespace)
//!   uid and gid maps (ids)                | waits
//!   control groups (cgroup)               | waits
//!   "go" -------------------------------->| (child) becomes root of its user namespace
//!   ... serves other tickets              | mount, net, ipc, uts, cgroup namespaces
//!                                         | empty read-only root (root)
//!                                         | bounding set, limits, capabilities, no new privileges
//!                                         | descriptors 0 to 3
//!   <- layers that could not be had ------|
//!   <- end of file: it has exec'd --------| exec
//!   Birth::finish
//! ```
//!
//! Law: a layer that is missing ends the child before its exec, unless it is conditional on the host
//! (an own uid, a control group) or the user has allowed it to be missing by name. Nothing is dropped
//! in silence: [`LayerState`] tells of each.
//!
//! Absent on purpose: Landlock and seccomp. Both have to come after the exec and are the child's own
//! matter (`runtime`).
#![forbid(unsafe_code)]

mod beneath;
mod birth;
mod budget;
mod cgroup;
mod child;
mod ids;
mod layer;
mod record;
mod root;

pub use birth::{Birth, Failure, Orders, Outcome, Progress};
pub use budget::{Budget, budget};
pub use cgroup::{Cell, Hierarchy};
pub use ids::{Maps, own_uid};
pub use layer::{Layer, LayerState};

#[cfg(test)]
mod tests;
