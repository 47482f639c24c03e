//! Are its seccomp filters, instruction by instruction, those that were compiled from the profiles?
//!
//! Only an unsealed root can read another process's filters (`PTRACE_SECCOMP_GET_FILTER`), and the
//! process stands still while it is read.

use bulkhead_sys::seccomp_of::{Program, programs_of};

use super::{Answer, Subject};

const CHECK: &str = "filter";

/// The answers.
pub fn check(subject: &Subject) -> Vec<Answer> {
    let Ok(found) = programs_of(subject.pid) else {
        return vec![Answer::hidden(CHECK)];
    };
    let Some(own) = bulkhead_seccomp::program(&subject.class) else {
        return vec![Answer::compare(CHECK, false, "no filter was compiled for this class")];
    };
    let declared: Vec<Program> = own.filters().map(<[_]>::to_vec).collect();
    let missing = declared.iter().filter(|program| !found.contains(program)).count();
    let detail = format!(
        "{} filters, {} of its own declared; fingerprint {:016x}",
        found.len(),
        declared.len(),
        own.fingerprint()
    );
    vec![match missing {
        0 => Answer::compare(CHECK, true, detail),
        _ => {
            Answer::compare(CHECK, subject.lacks("seccomp"), format!("{missing} missing: {detail}"))
        }
    }]
}
