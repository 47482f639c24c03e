//! Has it capabilities? All five sets of every process.

use bulkhead_manifest::{Capabilities, Manifest};

use super::{Answer, Subject, proc};

const CHECK: &str = "capabilities";
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// The answers.
pub fn check(subject: &Subject, manifest: &Manifest) -> Vec<Answer> {
    if manifest.capabilities == Capabilities::AsStarted {
        return Vec::new();
    }
    let Some(status) = proc::fields(subject.pid, "status") else {
        return vec![Answer::hidden(CHECK)];
    };
    let held = |set: &&str| {
        let value = status.get(*set)?;
        let bits = u64::from_str_radix(value, 16).unwrap_or(u64::MAX);
        (bits != 0).then(|| format!("{set} {value}"))
    };
    let held: Vec<String> = SETS.iter().filter_map(held).collect();
    vec![match held.is_empty() {
        true => Answer::compare(CHECK, true, "all five sets are empty"),
        false => Answer::compare(CHECK, subject.lacks(CHECK), held.join(", ")),
    }]
}
