//! Is it sealed? Seccomp mode and `NoNewPrivs`, of every thread.

use bulkhead_manifest::Manifest;

use super::{Answer, Subject, proc};

/// `Seccomp:` of a process under a filter (`SECCOMP_MODE_FILTER`).
const FILTERED: &str = "2";

/// The answers.
pub fn check(subject: &Subject, _manifest: &Manifest) -> Vec<Answer> {
    let Some(threads) = proc::names(subject.pid, "task") else {
        return vec![Answer::compare("process", false, "there is no such process")];
    };
    let mut seccomp = None;
    let mut privileges = None;
    for thread in &threads {
        let Some(status) = proc::fields(subject.pid, &format!("task/{thread}/status")) else {
            continue;
        };
        note(&mut seccomp, thread, status.get("Seccomp"), FILTERED);
        note(&mut privileges, thread, status.get("NoNewPrivs"), "1");
    }
    vec![
        answer("seccomp", subject.lacks("seccomp"), seccomp, threads.len()),
        answer("no-new-privileges", subject.lacks("no-new-privileges"), privileges, threads.len()),
    ]
}

/// The first thread that is not as it should be wins over those that are.
fn note(seen: &mut Option<Result<(), String>>, thread: &str, found: Option<&String>, wanted: &str) {
    let fault = match found {
        Some(value) if value == wanted => Ok(()),
        Some(value) => Err(format!("thread {thread} has {value}, declared is {wanted}")),
        None => Err(format!("thread {thread} shows nothing")),
    };
    if !matches!(seen, Some(Err(_))) {
        *seen = Some(fault);
    }
}

fn answer(
    check: &'static str,
    lacking: bool,
    seen: Option<Result<(), String>>,
    threads: usize,
) -> Answer {
    match seen {
        None => Answer::hidden(check),
        Some(Ok(())) => Answer::compare(check, true, format!("in force on {threads} threads")),
        Some(Err(why)) => Answer::compare(check, lacking, why),
    }
}
