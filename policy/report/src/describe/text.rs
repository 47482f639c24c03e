//! For a terminal.

use std::fmt::Write;

use bulkhead_manifest::Manifest;

/// One line per class.
pub fn overview(manifests: &[Manifest]) -> String {
    let mut out =
        String::from("CLASS          SYSCALLS  RULED  GUEST MEMORY  LANDLOCK  WAITS FOR\n");
    for manifest in manifests {
        let (all, ruled) = super::counts(manifest);
        let _ = writeln!(
            out,
            "{:13}  {all:8}  {ruled:5}  {:12}  {:8}  {}",
            manifest.class,
            super::guest_memory(manifest).split(',').next().unwrap_or_default(),
            super::landlock(manifest),
            super::waits(manifest)
        );
    }
    out
}

/// All of one manifest.
pub fn full(manifest: &Manifest) -> String {
    let mut out = String::new();
    let (all, ruled) = super::counts(manifest);
    let _ = writeln!(out, "{}: {}", manifest.class, manifest.job);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:14} {value}");
    };
    line("guest memory", &super::guest_memory(manifest));
    line("executable", &super::code_memory(manifest));
    line("namespaces", &super::namespaces(manifest));
    line("capabilities", super::capabilities(manifest));
    line("landlock", super::landlock(manifest));
    line("waits for", &super::waits(manifest));
    line("when it dies", &manifest.restart.reason);
    manifest.weaker_because.iter().for_each(|why| line("weaker because", why));
    manifest.over_budget.iter().for_each(|why| line("over budget", why));
    let _ = writeln!(out, "  descriptors");
    for fd in &manifest.fd {
        let kind = format!("{:?}", fd.kind).to_lowercase();
        let count = format!("{}–{} {kind}", fd.min, fd.max);
        let _ = writeln!(out, "    {count:24} {:10} {}", fd.rights.name(), fd.reason);
    }
    let _ = writeln!(out, "  limits");
    for limit in &manifest.limit {
        let _ =
            writeln!(out, "    {:10} {:>14}  {}", limit.resource.name(), limit.value, limit.reason);
    }
    let _ = writeln!(out, "  system calls: {all}, {ruled} with argument rules; any other kills");
    for call in &manifest.syscall {
        let _ = writeln!(out, "    {:18} {}", call.name, call.reason);
        if !call.rules.is_empty() {
            let _ = writeln!(out, "    {:18}   where {}", "", super::rules(&call.rules));
        }
    }
    for call in &manifest.errno {
        let _ = writeln!(out, "    {:18} answered {}: {}", call.name, call.errno, call.reason);
    }
    out
}
