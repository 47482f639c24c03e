//! Is it in a control group of its VM?

use bulkhead_manifest::Manifest;

use super::{Answer, Subject, Verdict, proc};

const CHECK: &str = "cgroup";

/// The answers.
pub fn check(subject: &Subject, manifest: &Manifest) -> Vec<Answer> {
    let declared = manifest.cgroup.pids.is_some()
        || manifest.cgroup.memory.is_some()
        || manifest.cgroup.cpu_percent.is_some();
    if !declared {
        return Vec::new();
    }
    if subject.lacks(CHECK) {
        return vec![Answer::new(CHECK, Verdict::NotApplicable, "as the layer's line says")];
    }
    let Some(text) = proc::read(subject.pid, "cgroup") else {
        return vec![Answer::hidden(CHECK)];
    };
    let inside = text.lines().filter(|line| line.contains("bulkhead")).count();
    vec![Answer::compare(CHECK, inside > 0, format!("in {inside} folders of the VM's"))]
}
