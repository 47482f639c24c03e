//! A running process held against its manifest.
//!
//! Called by `bulkhead audit` with the list of processes that the supervisor says it has. Each check
//! is one file, one question and one kind of line in the result; the questions are asked of `/proc`,
//! not of the process.

mod capabilities;
mod cgroup;
mod descriptors;
mod filter;
mod limits;
mod maps;
mod namespaces;
mod proc;
mod status;

use bulkhead_manifest::{Manifest, ManifestError};
use serde::Serialize;

pub use descriptors::kind_of;

/// A process to look at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its class.
    pub class: String,
    /// Which one of its class.
    pub id: String,
    /// Its pid, as the caller's pid namespace has it.
    pub pid: i32,
    /// Layers that the user allowed to be missing, and why they are.
    pub weakened: Vec<(String, String)>,
    /// Conditional layers whose condition does not hold on this host, and why.
    pub not_applicable: Vec<(String, String)>,
}

impl Subject {
    fn lacks(&self, layer: &str) -> bool {
        self.weakened.iter().chain(&self.not_applicable).any(|(name, _)| name == layer)
    }
}

/// What one check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As the manifest says.
    AsDeclared,
    /// The layer is conditional and its condition does not hold here.
    NotApplicable,
    /// This user cannot see it.
    NotObservable,
    /// Missing by the user's own leave.
    Weakened,
    /// Not as the manifest says.
    Deviation,
}

/// One line of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Class of the process.
    pub role: String,
    /// Which one of its class.
    pub id: String,
    /// Its pid.
    pub pid: i32,
    /// What was asked (`seccomp`, `descriptors`).
    pub check: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// What was seen and what was declared.
    pub detail: String,
}

/// An answer before it is put beside its process.
pub(crate) struct Answer {
    check: &'static str,
    verdict: Verdict,
    detail: String,
}

impl Answer {
    fn new(check: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { check, verdict, detail: detail.into() }
    }

    fn compare(check: &'static str, holds: bool, detail: impl Into<String>) -> Self {
        let verdict = if holds { Verdict::AsDeclared } else { Verdict::Deviation };
        Self::new(check, verdict, detail)
    }

    fn hidden(check: &'static str) -> Self {
        Self::new(check, Verdict::NotObservable, "not observable by this user")
    }
}

/// Holds `subject` against the manifest of its class.
pub fn examine(subject: &Subject) -> Result<Vec<Finding>, ManifestError> {
    let manifest = bulkhead_manifest::profile(&subject.class)?;
    Ok(examine_against(subject, &manifest))
}

/// Holds `subject` against `manifest`.
pub fn examine_against(subject: &Subject, manifest: &Manifest) -> Vec<Finding> {
    let layer = |(layer, why): &(String, String), verdict| {
        Answer::new("layer", verdict, format!("{layer}: {why}"))
    };
    let mut answers: Vec<Answer> = Vec::new();
    answers.extend(subject.weakened.iter().map(|entry| layer(entry, Verdict::Weakened)));
    answers.extend(subject.not_applicable.iter().map(|entry| layer(entry, Verdict::NotApplicable)));
    answers.extend(status::check(subject, manifest));
    answers.extend(filter::check(subject));
    answers.extend(capabilities::check(subject, manifest));
    answers.extend(namespaces::check(subject, manifest));
    answers.extend(descriptors::check(subject, manifest));
    answers.extend(maps::check(subject, manifest));
    answers.extend(limits::check(subject, manifest));
    answers.extend(cgroup::check(subject, manifest));
    let place = |answer: Answer| Finding {
        role: subject.class.clone(),
        id: subject.id.clone(),
        pid: subject.pid,
        check: answer.check,
        verdict: answer.verdict,
        detail: answer.detail,
    };
    answers.into_iter().map(place).collect()
}

/// Whether an audit with these findings passes.
pub fn passes(findings: &[Finding], accept_weaker: bool) -> bool {
    !findings.is_empty()
        && findings.iter().all(|finding| match finding.verdict {
            Verdict::Deviation => false,
            Verdict::Weakened => accept_weaker,
            _ => true,
        })
}

#[cfg(test)]
mod tests;
