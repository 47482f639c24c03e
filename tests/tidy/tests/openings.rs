//! Every source file opens with what it is for, and says nothing it must not.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a root")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let tops = ["ipc", "policy", "procs", "vmm-core", "vhost-backends", "tests"];
    for top in tops {
        collect(&root().join(top), &mut found);
    }
    assert!(found.len() > 50, "the sources were found");
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn every_file_opens_with_its_job() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !is_test(path))
        .filter(|path| !std::fs::read_to_string(path).unwrap_or_default().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "files without an opening: {silent:#?}");
}

#[test]
fn no_file_has_a_name_that_means_nothing() {
    let empty = ["util", "utils", "common", "base", "helper", "helpers", "misc", "manager"];
    let bad: Vec<_> = sources()
        .into_iter()
        .filter(|path| {
            path.file_stem()
                .and_then(|stem| stem.to_str())
                .is_some_and(|stem| empty.contains(&stem))
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn crates_without_leave_forbid_unsafe_code() {
    let leave = ["ipc/sys", "ipc/ring", "ipc/memory", "vmm-core/hypervisor", "procs/soft-cpu"];
    let mut bad = Vec::new();
    for path in sources() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let relative = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let is_root = matches!(name, "lib.rs" | "main.rs") && relative.matches('/').count() == 3;
        if !is_root || leave.iter().any(|folder| relative.starts_with(folder)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if !text.contains("#![forbid(unsafe_code)]") {
            bad.push(relative);
        }
    }
    assert!(bad.is_empty(), "no #![forbid(unsafe_code)] in {bad:#?}");
}
