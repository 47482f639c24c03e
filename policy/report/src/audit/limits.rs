//! Are its resource limits those of the manifest, soft and hard?

use bulkhead_manifest::Manifest;

use super::{Answer, Subject, proc};

const CHECK: &str = "limits";

/// The answers.
pub fn check(subject: &Subject, manifest: &Manifest) -> Vec<Answer> {
    if manifest.limit.is_empty() {
        return Vec::new();
    }
    let Some(text) = proc::read(subject.pid, "limits") else {
        return vec![Answer::hidden(CHECK)];
    };
    let fault = |limit: &bulkhead_manifest::limits::ResourceLimit| {
        let name = limit.resource.proc_name();
        let found = text.lines().find_map(|line| line.strip_prefix(name)).map(values);
        let wanted = limit.value.to_string();
        // A limit below the declared one is the host's own and grants less.
        let within = |value: &String| {
            value.parse::<u64>().is_ok_and(|value| value <= limit.value) || *value == wanted
        };
        match found {
            Some((soft, hard)) if within(&soft) && within(&hard) => None,
            Some((soft, hard)) => Some(format!("{name}: {soft}/{hard}, declared {wanted}")),
            None => Some(format!("{name} is not shown")),
        }
    };
    let faults: Vec<String> = manifest.limit.iter().filter_map(fault).collect();
    vec![match faults.is_empty() {
        true => Answer::compare(CHECK, true, format!("{} as declared", manifest.limit.len())),
        false => Answer::compare(CHECK, subject.lacks(CHECK), faults.join("; ")),
    }]
}

fn values(rest: &str) -> (String, String) {
    let mut words = rest.split_whitespace().map(str::to_owned);
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}
