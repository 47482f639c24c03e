//! A manifest in words: for a terminal, for a document, for a program.

mod json;
mod markdown;
mod text;

use bulkhead_manifest::rule::{Condition, Rule};
use bulkhead_manifest::{
    CLASSES, Capabilities, Extent, Landlock, Manifest, ManifestError, THREADS,
};

/// Form of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For a terminal.
    Text,
    /// For a document.
    Markdown,
    /// For a program.
    Json,
}

/// Names of all profiles, threads after their processes.
pub fn names() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().copied().chain(THREADS.iter().map(|(thread, _)| *thread))
}

/// The manifest of one class or thread.
pub fn manifest(name: &str) -> Result<Manifest, ManifestError> {
    bulkhead_manifest::profile(name)
}

/// All manifests, in the order of [`names`].
pub fn manifests() -> Result<Vec<Manifest>, ManifestError> {
    names().map(bulkhead_manifest::profile).collect()
}

/// Each manifest in full.
pub fn show(manifests: &[Manifest], form: Form) -> String {
    match form {
        Form::Text => manifests.iter().map(text::full).collect::<Vec<_>>().join("\n"),
        Form::Markdown => manifests.iter().map(markdown::full).collect::<Vec<_>>().join("\n"),
        Form::Json => json::all(manifests),
    }
}

/// An overview, then each manifest in full.
pub fn report(manifests: &[Manifest], form: Form) -> String {
    match form {
        Form::Text => format!("{}\n{}", text::overview(manifests), show(manifests, form)),
        Form::Markdown => format!("{}\n{}", markdown::overview(manifests), show(manifests, form)),
        Form::Json => json::all(manifests),
    }
}

/// System calls of the steady state, and how many of them have argument rules.
pub fn counts(manifest: &Manifest) -> (usize, usize) {
    let own = manifest.own_syscalls();
    own.fold((0, 0), |(all, ruled), call| (all + 1, ruled + usize::from(!call.rules.is_empty())))
}

fn rules(rules: &[Rule]) -> String {
    let rule = |rule: &Rule| rule.iter().map(condition).collect::<Vec<_>>().join(" and ");
    rules.iter().map(rule).collect::<Vec<_>>().join(", or ")
}

fn condition(condition: &Condition) -> String {
    let arg = condition.arg;
    let left = match &condition.mask {
        Some(mask) => format!("arg{arg} & {mask}"),
        None => format!("arg{arg}"),
    };
    let comparisons = [
        ("=", &condition.eq),
        ("≠", &condition.ne),
        ("<", &condition.lt),
        ("≤", &condition.le),
        (">", &condition.gt),
        ("≥", &condition.ge),
    ];
    let given = comparisons.iter().find_map(|(sign, value)| value.as_ref().map(|v| (*sign, v)));
    match given {
        Some((sign, value)) => format!("{left} {sign} {value}"),
        None => left,
    }
}

fn guest_memory(manifest: &Manifest) -> String {
    let rights = manifest.guest_memory.rights.map_or("", |rights| rights.name());
    match manifest.guest_memory.extent {
        Extent::None => "none".to_owned(),
        Extent::Granted => format!("what was granted, {rights}"),
        Extent::All => format!("all, {rights}"),
    }
}

fn code_memory(manifest: &Manifest) -> String {
    let Some(code) = &manifest.code_memory else {
        return "the program's text".to_owned();
    };
    format!("the program's text, and up to {} code memories: {}", code.most, code.reason)
}

fn namespaces(manifest: &Manifest) -> String {
    let names: Vec<&str> = manifest.namespaces.iter().map(|one| one.proc_name()).collect();
    if names.is_empty() { "those of its starter".to_owned() } else { names.join(" ") }
}

const fn capabilities(manifest: &Manifest) -> &'static str {
    match manifest.capabilities {
        Capabilities::None => "none",
        Capabilities::AsStarted => "as started",
    }
}

const fn landlock(manifest: &Manifest) -> &'static str {
    match manifest.landlock {
        Landlock::DenyAll => "deny all",
        Landlock::None => "none",
    }
}

fn waits(manifest: &Manifest) -> String {
    if manifest.waits_for.is_empty() { "nobody".to_owned() } else { manifest.waits_for.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_described_in_every_form() {
        let manifests = manifests().unwrap();
        for form in [Form::Text, Form::Markdown, Form::Json] {
            let text = report(&manifests, form);
            for name in names() {
                assert!(text.contains(name), "{name} in {form:?}");
            }
        }
        let json: serde_json::Value = serde_json::from_str(&show(&manifests, Form::Json)).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(manifests.len()));
    }

    #[test]
    fn every_call_stands_there_with_its_reason() {
        let manifest = bulkhead_manifest::profile("vhost-rng").unwrap();
        let text = show(std::slice::from_ref(&manifest), Form::Text);
        assert!(manifest.syscall.iter().all(|call| text.contains(&call.reason)));
    }
}
