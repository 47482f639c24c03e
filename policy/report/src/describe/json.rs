//! For a program.

use bulkhead_manifest::Manifest;
use serde_json::{Value, json};

/// An array of manifests.
pub fn all(manifests: &[Manifest]) -> String {
    let list: Vec<Value> = manifests.iter().map(one).collect();
    // Plain values cannot fail to be written.
    serde_json::to_string_pretty(&list).unwrap_or_default()
}

fn one(manifest: &Manifest) -> Value {
    let (all, ruled) = super::counts(manifest);
    json!({
        "class": manifest.class,
        "job": manifest.job,
        "syscall_count": all,
        "syscalls_with_rules": ruled,
        "guest_memory": super::guest_memory(manifest),
        "executable_memory": super::code_memory(manifest),
        "namespaces": manifest.namespaces.iter().map(|one| one.proc_name()).collect::<Vec<_>>(),
        "capabilities": super::capabilities(manifest),
        "landlock": super::landlock(manifest),
        "waits_for": manifest.waits_for,
        "weaker_because": manifest.weaker_because,
        "over_budget": manifest.over_budget,
        "on_death": manifest.restart.reason,
        "descriptors": manifest.fd.iter().map(|fd| json!({
            "kind": format!("{:?}", fd.kind).to_lowercase(),
            "rights": fd.rights.name(),
            "min": fd.min,
            "max": fd.max,
            "reason": fd.reason,
        })).collect::<Vec<_>>(),
        "limits": manifest.limit.iter().map(|limit| json!({
            "resource": limit.resource.name(),
            "value": limit.value,
            "reason": limit.reason,
        })).collect::<Vec<_>>(),
        "cgroup": {
            "pids": manifest.cgroup.pids,
            "memory": manifest.cgroup.memory,
            "cpu_percent": manifest.cgroup.cpu_percent,
            "reason": manifest.cgroup.reason,
        },
        "syscalls": manifest.syscall.iter().map(|call| json!({
            "name": call.name,
            "where": super::rules(&call.rules),
            "for_children": call.for_children,
            "reason": call.reason,
        })).collect::<Vec<_>>(),
        "answered": manifest.errno.iter().map(|call| json!({
            "name": call.name,
            "errno": call.errno.words(),
            "reason": call.reason,
        })).collect::<Vec<_>>(),
    })
}
