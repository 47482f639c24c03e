//! Has it namespaces and a root of its own?

use bulkhead_manifest::{Manifest, Namespace};

use super::{Answer, Subject, proc};

/// The answers.
pub fn check(subject: &Subject, manifest: &Manifest) -> Vec<Answer> {
    if manifest.namespaces.is_empty() {
        return Vec::new();
    }
    let mut shared = Vec::new();
    let mut hidden = false;
    for namespace in &manifest.namespaces {
        let name = namespace.proc_name();
        let own = proc::link(subject.pid, &format!("ns/{name}"));
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
        match (own, ours) {
            (Some(own), Some(ours)) if ours.to_string_lossy() == own => {
                if !subject.lacks(&layer(*namespace)) {
                    shared.push(name);
                }
            }
            (Some(_), Some(_)) => {}
            _ => hidden = true,
        }
    }
    let namespaces = match (shared.is_empty(), hidden) {
        (false, _) => Answer::compare("namespaces", false, format!("shared: {}", shared.join(" "))),
        (true, true) => Answer::hidden("namespaces"),
        (true, false) => {
            let detail = format!("{} of its own", manifest.namespaces.len());
            Answer::compare("namespaces", true, detail)
        }
    };
    let mut answers = vec![namespaces];
    if manifest.namespaces.contains(&Namespace::Mount) && !subject.lacks("mount-namespace") {
        answers.push(root(subject));
    }
    answers
}

/// The layer's name, as `--allow-weaker-sandbox` has it.
fn layer(namespace: Namespace) -> String {
    let name = match namespace {
        Namespace::Mount => "mount",
        other => other.proc_name(),
    };
    format!("{name}-namespace")
}

fn root(subject: &Subject) -> Answer {
    match proc::names(subject.pid, "root") {
        None => Answer::hidden("root"),
        Some(names) if names.is_empty() => Answer::compare("root", true, "empty"),
        Some(names) => Answer::compare("root", false, format!("holds {}", names.join(" "))),
    }
}
