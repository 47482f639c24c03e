//! What a class's profile gives it in numbers.

use nix::sys::resource::Resource;

/// Limits of a class.
#[derive(Debug)]
pub struct Budget {
    /// The class.
    pub class: &'static str,
    /// Resource limits, soft and hard.
    pub limits: &'static [(Resource, u64)],
    /// Tasks of its control group.
    pub pids: Option<u32>,
    /// Bytes of memory its control group is charged for.
    pub memory: Option<u64>,
    /// Percent of one CPU.
    pub cpu_percent: Option<u32>,
}

include!(concat!(env!("OUT_DIR"), "/budgets.rs"));

/// The limits of a class.
pub fn budget(class: &str) -> Option<&'static Budget> {
    BUDGETS.iter().find(|budget| budget.class == class)
}
