//! Does it hold just what it may? Descriptors by kind and rights.
//!
//! `/proc/PID/fd` says what a descriptor is, `fdinfo` with which rights it is open. A kind that the
//! manifest does not name, one more than it allows or one less than it promises is a deviation.

use std::collections::BTreeMap;

use bulkhead_manifest::holding::{FdKind, When, range};
use bulkhead_manifest::{Manifest, Rights};

use super::{Answer, Subject, proc};

const CHECK: &str = "descriptors";

/// The answers.
pub fn check(subject: &Subject, manifest: &Manifest) -> Vec<Answer> {
    let Some(held) = held(subject.pid) else {
        return vec![Answer::hidden(CHECK)];
    };
    let total: usize = held.values().map(Vec::len).sum();
    let faults = faults(manifest, &held);
    vec![match faults.is_empty() {
        true => Answer::compare(CHECK, true, format!("{total}, all of them declared")),
        false => Answer::compare(CHECK, false, faults.join("; ")),
    }]
}

/// Kinds and rights that are there, with the descriptors' numbers.
type Held = BTreeMap<(FdKind, &'static str), Vec<String>>;

fn held(pid: i32) -> Option<Held> {
    let mut held = Held::new();
    for number in proc::names(pid, "fd")? {
        // A descriptor that was closed between the two looks is not held.
        let Some(target) = proc::link(pid, &format!("fd/{number}")) else {
            if proc::read(pid, &format!("fdinfo/{number}")).is_some() {
                return None;
            }
            continue;
        };
        let info = proc::fields(pid, &format!("fdinfo/{number}")).unwrap_or_default();
        let kind = kind_of(&target, &format!("/proc/{pid}/fd/{number}"));
        let name = format!("{number} ({target})");
        held.entry((kind, rights(&info).name())).or_default().push(name);
    }
    Some(held)
}

fn rights(info: &BTreeMap<String, String>) -> Rights {
    let flags = info.get("flags").and_then(|flags| u64::from_str_radix(flags, 8).ok());
    match flags.unwrap_or(2) & 3 {
        0 => Rights::Read,
        1 => Rights::Write,
        _ => Rights::ReadWrite,
    }
}

/// What a descriptor is, from where its link in `/proc/PID/fd` leads; `path` is that link.
pub fn kind_of(target: &str, path: &str) -> FdKind {
    let anonymous = target.strip_prefix("anon_inode:").map(|name| name.trim_matches(['[', ']']));
    match (target, anonymous) {
        ("/dev/null", _) => FdKind::Null,
        ("/dev/kvm", _) => FdKind::Kvm,
        (_, Some("eventfd")) => FdKind::Eventfd,
        (_, Some("eventpoll")) => FdKind::Epoll,
        (_, Some("timerfd")) => FdKind::Timerfd,
        (_, Some("signalfd")) => FdKind::Signalfd,
        (_, Some("pidfd")) => FdKind::Pidfd,
        (_, Some(name)) if name.starts_with("kvm") => FdKind::KvmObject,
        _ if target.starts_with("socket:") => FdKind::Socket,
        _ if target.starts_with("pipe:") => FdKind::Pipe,
        _ if target.starts_with("pidfd:") => FdKind::Pidfd,
        _ if target.starts_with("/memfd:") => FdKind::Memfd,
        _ => kind_of_file(path),
    }
}

fn kind_of_file(path: &str) -> FdKind {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::metadata(path).map(|found| found.file_type()) {
        Ok(kind) if kind.is_dir() => FdKind::Directory,
        Ok(kind) if kind.is_block_device() => FdKind::BlockDevice,
        Ok(kind) if kind.is_char_device() => FdKind::CharacterDevice,
        _ => FdKind::File,
    }
}

fn faults(manifest: &Manifest, held: &Held) -> Vec<String> {
    let mut faults = Vec::new();
    for ((kind, rights_name), names) in held {
        let rights = match *rights_name {
            "read" => Rights::Read,
            "write" => Rights::Write,
            _ => Rights::ReadWrite,
        };
        let (_, most) = range(&manifest.fd, *kind, rights, When::Running);
        if names.len() > most as usize {
            let names = names.join(" ");
            faults.push(format!("{kind:?} {rights_name}: {names}; declared are at most {most}"));
        }
    }
    for holding in &manifest.fd {
        let (least, _) = range(&manifest.fd, holding.kind, holding.rights, When::Plan);
        let count = held.get(&(holding.kind, holding.rights.name())).map_or(0, Vec::len);
        if count < least as usize && !faults.iter().any(|fault| fault.starts_with("missing")) {
            faults.push(format!("missing: {least} {:?} declared, {count} held", holding.kind));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_tell_what_a_descriptor_is() {
        assert_eq!(kind_of("socket:[1]", ""), FdKind::Socket);
        assert_eq!(kind_of("anon_inode:[eventfd]", ""), FdKind::Eventfd);
        assert_eq!(kind_of("anon_inode:kvm-vcpu:0", ""), FdKind::KvmObject);
        assert_eq!(kind_of("/memfd:ring (deleted)", ""), FdKind::Memfd);
        assert_eq!(kind_of("/", "/"), FdKind::Directory);
    }

    #[test]
    fn a_descriptor_too_many_is_a_fault_that_names_it() {
        let manifest = bulkhead_manifest::profile("vhost-rng").unwrap();
        let mut held = Held::new();
        held.insert((FdKind::File, "read-write"), vec!["9 (/etc/shadow)".to_owned()]);
        assert!(faults(&manifest, &held).iter().any(|fault| fault.contains("/etc/shadow")));
    }
}
