//! The import law, read from `cargo metadata`.
//!
//! Downwards only: `ipc` imports `ipc`; `policy` imports `policy` and `ipc/sys`; `vmm-core` and
//! `vhost-backends` never import each other, they meet in `ipc`; nobody imports a binary; nothing
//! imports `tests`. Of `vmm-core`, `procs` may import `hypervisor` alone, and there only those who
//! must: the far end of an engine, `procs/soft-cpu`, and the command, which measures KVM before it chooses.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// A crate of ours: its folder (`ipc/sys`) and the folders of those it needs at run time.
type Graph = BTreeMap<String, Vec<String>>;

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform"])
        .arg("x86_64-unknown-linux-gnu")
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a root")
}

fn folder(manifest: &str) -> Option<String> {
    let relative = std::path::Path::new(manifest).parent()?.strip_prefix(root()).ok()?.to_str()?;
    Some(relative.to_owned())
}

fn graph(metadata: &Value, with_dev: bool) -> Graph {
    let packages = metadata["packages"].as_array().expect("packages");
    let folders: BTreeMap<&str, String> = packages
        .iter()
        .filter_map(|package| {
            let folder = folder(package["manifest_path"].as_str()?)?;
            Some((package["name"].as_str()?, folder))
        })
        .collect();
    packages
        .iter()
        .filter_map(|package| {
            let own = folders.get(package["name"].as_str()?)?;
            let needs = package["dependencies"]
                .as_array()?
                .iter()
                .filter(|dependency| with_dev || dependency["kind"].as_str() != Some("dev"))
                .filter_map(|dependency| folders.get(dependency["name"].as_str()?))
                .cloned()
                .collect();
            Some((own.clone(), needs))
        })
        .collect()
}

fn top(folder: &str) -> &str {
    folder.split('/').next().unwrap_or(folder)
}

/// Why `from` may not import `to`, if it may not.
fn fault(from: &str, to: &str) -> Option<&'static str> {
    let allowed = match top(from) {
        "ipc" => top(to) == "ipc",
        "policy" => top(to) == "policy" || to == "ipc/sys",
        "vmm-core" => matches!(top(to), "vmm-core" | "ipc") || to == "procs/runtime",
        "vhost-backends" => matches!(top(to), "vhost-backends" | "ipc") || to == "procs/runtime",
        "procs" if to == "vmm-core/hypervisor" => {
            matches!(from, "procs/soft-cpu" | "procs/bulkhead")
        }
        "procs" => matches!(top(to), "procs" | "ipc" | "policy"),
        "tests" => true,
        _ => false,
    };
    if !allowed {
        return Some("the import law forbids it");
    }
    (top(to) == "tests" && top(from) != "tests").then_some("nothing imports tests")
}

#[test]
fn crates_import_downwards_only() {
    let graph = graph(&metadata(), false);
    assert!(graph.len() > 20, "the workspace was found");
    let faults: Vec<String> = graph
        .iter()
        .flat_map(|(from, needs)| needs.iter().map(move |to| (from, to)))
        .filter_map(|(from, to)| fault(from, to).map(|why| format!("{from} imports {to}: {why}")))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_law_can_be_broken() {
    assert!(fault("ipc/ring", "policy/jail").is_some());
    assert!(fault("vmm-core/core", "vhost-backends/blk").is_some());
    assert!(fault("policy/jail", "ipc/channel").is_some());
    assert!(fault("ipc/ring", "ipc/sys").is_none());
}

#[test]
fn the_release_graph_stays_under_120_crates() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "--target"])
        .args(["x86_64-unknown-linux-gnu", "-f", "{p}"])
        .args(["-p", "bulkhead-bulkhead", "-p", "bulkhead-supervisor", "-p", "bulkhead-launcher"])
        .args(["-p", "bulkhead-control", "-p", "bulkhead-core", "-p", "bulkhead-blk"])
        .args(["-p", "bulkhead-console", "-p", "bulkhead-rng", "-p", "bulkhead-block-layer"])
        .args(["-p", "bulkhead-sink"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let crates: std::collections::BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(" (").next())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(crates.len() > 20, "the tree was printed: {}", String::from_utf8_lossy(&output.stderr));
    assert!(crates.len() <= 120, "{} crates:\n{crates:#?}", crates.len());
}
