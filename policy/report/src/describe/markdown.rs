//! For a document.

use std::fmt::Write;

use bulkhead_manifest::Manifest;

/// A table of all classes.
pub fn overview(manifests: &[Manifest]) -> String {
    let mut out = String::from(
        "# What each process may do\n\n| class | job | system calls | with argument rules | guest memory | \
         Landlock | waits for |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for manifest in manifests {
        let (all, ruled) = super::counts(manifest);
        let _ = writeln!(
            out,
            "| `{}` | {} | {all} | {ruled} | {} | {} | {} |",
            manifest.class,
            cell(&manifest.job),
            super::guest_memory(manifest),
            super::landlock(manifest),
            super::waits(manifest)
        );
    }
    out
}

/// All of one manifest.
pub fn full(manifest: &Manifest) -> String {
    let mut out = format!("## `{}`\n\n{}\n\n", manifest.class, manifest.job);
    let _ = writeln!(out, "- Guest memory: {}", super::guest_memory(manifest));
    let _ = writeln!(out, "- Executable memory: {}", super::code_memory(manifest));
    let _ = writeln!(out, "- Namespaces: {}", super::namespaces(manifest));
    let _ = writeln!(out, "- Capabilities: {}", super::capabilities(manifest));
    let _ = writeln!(out, "- Landlock: {}", super::landlock(manifest));
    let _ = writeln!(out, "- Waits for: {}", super::waits(manifest));
    let _ = writeln!(out, "- When it dies: {}", manifest.restart.reason);
    for why in manifest.weaker_because.iter().chain(&manifest.over_budget) {
        let _ = writeln!(out, "- Exception: {why}");
    }
    out.push_str("\n| descriptors | rights | for |\n| --- | --- | --- |\n");
    for fd in &manifest.fd {
        let kind = format!("{:?}", fd.kind).to_lowercase();
        let _ = writeln!(
            out,
            "| {}–{} {kind} | {} | {} |",
            fd.min,
            fd.max,
            fd.rights.name(),
            cell(&fd.reason)
        );
    }
    out.push_str("\n| limit | value | because |\n| --- | --- | --- |\n");
    for limit in &manifest.limit {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            limit.resource.name(),
            limit.value,
            cell(&limit.reason)
        );
    }
    out.push_str("\n| system call | where | for |\n| --- | --- | --- |\n");
    for call in &manifest.syscall {
        let rules = cell(&super::rules(&call.rules));
        let _ = writeln!(out, "| `{}` | {rules} | {} |", call.name, cell(&call.reason));
    }
    for call in &manifest.errno {
        let _ =
            writeln!(out, "| `{}` | answered {} | {} |", call.name, call.errno, cell(&call.reason));
    }
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
