//! What no profile may say, whatever its reasons.
//!
//! Read by [`crate::Manifest::parse`], so that a profile that breaks the law stops the build.

use crate::rule::{Allowed, Rule};
use crate::{Capabilities, Extent, Landlock, Manifest, Namespace, budget, numbers};

/// Calls whose every rule must say something about one argument: the one that selects what the call
/// does.
const SELECTED_BY: [(&str, u8); 16] = [
    ("ioctl", 1),
    ("mmap", 2),
    ("mprotect", 2),
    ("fcntl", 1),
    ("madvise", 2),
    ("prctl", 0),
    ("clone", 0),
    ("futex", 1),
    ("sendmsg", 2),
    ("recvmsg", 2),
    ("memfd_create", 1),
    ("openat", 2),
    ("seccomp", 0),
    ("socket", 0),
    ("socketpair", 0),
    ("tgkill", 0),
];

/// Calls that no sealed process has, and the classes that cannot do their job without.
const FORBIDDEN: [(&[&str], &[&str]); 9] = [
    (&["execve", "execveat"], &["launcher"]),
    (&["unshare", "setns"], &["launcher"]),
    (MOUNTING, &["launcher"]),
    // The launcher writes uid maps and cgroup files, all under folders that it holds; see its
    // profile.
    (&["openat"], &["supervisor", "launcher"]),
    (&["open", "creat", "openat2"], &["supervisor"]),
    (&["connect", "socket"], &["supervisor"]),
    // Fresh rings for each incarnation are made by the supervisor, sealed.
    (&["memfd_create"], &["supervisor"]),
    (&["pidfd_send_signal"], &["supervisor"]),
    (NOWHERE, &[]),
];

/// Classes that make code at run time.
const COMPILING: &[&str] = &["soft-cpu-jit"];

const MOUNTING: &[&str] = &[
    "mount",
    "umount2",
    "pivot_root",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "chroot",
];

const NOWHERE: &[&str] = &[
    "open_by_handle_at",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "clone3",
    "fork",
    "vfork",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "add_key",
    "request_key",
    "keyctl",
    "kill",
    "tkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "pidfd_getfd",
    "perf_event_open",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "modify_ldt",
    "personality",
    "pkey_mprotect",
    "remap_file_pages",
    "shmat",
    "mknod",
    "mknodat",
];

/// Every breach, one sentence each.
pub fn breaches(manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    reasons(manifest, &mut found);
    for allowed in &manifest.syscall {
        names_and_arguments(allowed, &mut found);
        authority(&manifest.class, allowed, &mut found);
    }
    for answered in &manifest.errno {
        if numbers::number(&answered.name).is_none() {
            found.push(format!("{} is no system call", answered.name));
        }
    }
    once(manifest, &mut found);
    within_budget(manifest, &mut found);
    found
}

fn reasons(manifest: &Manifest, found: &mut Vec<String>) {
    let mut lines: Vec<(&str, &str)> = vec![("job", &manifest.job)];
    lines.push(("restart", &manifest.restart.reason));
    lines.extend(manifest.syscall.iter().map(|s| (s.name.as_str(), s.reason.as_str())));
    lines.extend(manifest.errno.iter().map(|s| (s.name.as_str(), s.reason.as_str())));
    lines.extend(manifest.limit.iter().map(|l| (l.resource.name(), l.reason.as_str())));
    lines.extend(manifest.fd.iter().map(|fd| ("fd", fd.reason.as_str())));
    for (what, reason) in lines {
        if reason.trim().is_empty() {
            found.push(format!("{what} has no reason"));
        }
    }
    let walled = manifest.namespaces.len() == Namespace::ALL.len()
        && manifest.capabilities == Capabilities::None
        && manifest.landlock == Landlock::DenyAll;
    if walled == manifest.weaker_because.is_some() {
        found.push("weaker_because must be given exactly where a layer is missing".into());
    }
    if let Some(code) = &manifest.code_memory {
        if code.reason.trim().is_empty() {
            found.push("code_memory has no reason".into());
        }
        if !COMPILING.contains(&manifest.class.as_str()) {
            found.push("code_memory is forbidden to this class".into());
        }
    }
    let mapped = manifest.guest_memory.extent != Extent::None;
    if mapped != manifest.guest_memory.rights.is_some() {
        found.push("guest_memory has rights exactly where something is mapped".into());
    }
}

fn names_and_arguments(allowed: &Allowed, found: &mut Vec<String>) {
    let name = &allowed.name;
    if numbers::number(name).is_none() {
        found.push(format!("{name} is no system call"));
    }
    for condition in allowed.rules.iter().flatten() {
        if let Err(error) = condition.comparison() {
            found.push(format!("{name}: {error}"));
        }
    }
    let selector = SELECTED_BY.iter().find(|(call, _)| call == name);
    if let Some((_, argument)) = selector {
        let says = |rule: &Rule| rule.iter().any(|condition| condition.arg == *argument);
        if allowed.rules.is_empty() || !allowed.rules.iter().all(says) {
            found.push(format!("{name}: every rule must say what argument {argument} may be"));
        }
    }
}

fn authority(class: &str, allowed: &Allowed, found: &mut Vec<String>) {
    let name = allowed.name.as_str();
    let forbidden = FORBIDDEN.iter().find(|(calls, _)| calls.contains(&name));
    if forbidden.is_some_and(|(_, classes)| !classes.contains(&class)) {
        found.push(format!("{name} is forbidden to this class"));
    }
    // What code memory is made by, between a child's start and its own filter.
    let is_for_code = |rule: &Rule| {
        (class, name) == ("launcher", "mprotect") && allowed.for_children && never_written(rule)
    };
    let executes = |rule: &&Rule| may_execute(rule) && !is_for_code(rule);
    if matches!(name, "mmap" | "mprotect") && allowed.rules.iter().any(|rule| executes(&rule)) {
        found.push(format!("{name} could make memory executable"));
    }
    if name == "tgkill" && allowed.rules.iter().any(|rule| !only_itself(rule)) {
        found.push("tgkill could reach another process".into());
    }
}

/// Whether a rule on a protection lets any combination with `PROT_EXEC` through.
fn may_execute(rule: &Rule) -> bool {
    (0..8u64).filter(|prot| prot & 4 != 0).any(|prot| {
        let about_prot = rule.iter().filter(|condition| condition.arg == 2);
        about_prot.map(|condition| condition.holds(prot)).all(|holds| holds == Ok(true))
    })
}

/// Whether a rule on a protection lets no combination of `PROT_WRITE` and `PROT_EXEC` through.
fn never_written(rule: &Rule) -> bool {
    let about_prot = || rule.iter().filter(|condition| condition.arg == 2);
    about_prot().count() > 0
        && [6u64, 7]
            .into_iter()
            .all(|prot| about_prot().any(|condition| condition.holds(prot) == Ok(false)))
}

/// Whether a `tgkill` rule names the process that every helper is: number 1 of its pid namespace.
fn only_itself(rule: &Rule) -> bool {
    rule.iter().any(|condition| {
        condition.arg == 0 && condition.eq.as_ref().is_some_and(|value| value.bits() == 1)
    })
}

fn once(manifest: &Manifest, found: &mut Vec<String>) {
    for (index, allowed) in manifest.syscall.iter().enumerate() {
        let earlier = &manifest.syscall[..index];
        let again = |other: &Allowed| {
            other.name == allowed.name && other.for_children == allowed.for_children
        };
        if earlier.iter().any(again) {
            found.push(format!("{} is there twice", allowed.name));
        }
    }
    for (index, answered) in manifest.errno.iter().enumerate() {
        if manifest.errno[..index].iter().any(|other| other.name == answered.name) {
            found.push(format!("{} is answered twice", answered.name));
        }
    }
}

fn within_budget(manifest: &Manifest, found: &mut Vec<String>) {
    let Some(budget) = budget(&manifest.class) else {
        found.push("the class has no budget of system calls".into());
        return;
    };
    let count = manifest.own_syscalls().count();
    match (count > budget, manifest.over_budget.is_some()) {
        (true, false) => {
            found.push(format!("{count} system calls, budget {budget}, and no reason for more"));
        }
        (false, true) => found.push("over_budget is given within the budget".into()),
        _ => {}
    }
}
