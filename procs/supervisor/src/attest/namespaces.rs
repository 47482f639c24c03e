//! Namespaces of its own, and an empty, read-only root.

use std::io;
use std::os::fd::OwnedFd;

use bulkhead_manifest::Namespace;
use bulkhead_protocol::launch::Layer;
use nix::fcntl::readlinkat;

use super::{Expected, Fault};
use crate::open::read_text;

/// The namespaces of a process.
pub fn of(root: &OwnedFd, pid: i32) -> io::Result<Vec<(Namespace, String)>> {
    let link = |namespace: Namespace| {
        let path = format!("{pid}/ns/{}", namespace.proc_name());
        let target = readlinkat(root, path.as_str())?;
        Ok((namespace, target.to_string_lossy().into_owned()))
    };
    Namespace::ALL.into_iter().map(link).collect()
}

/// None of a process's namespaces may be ours, and its root must be empty and read-only.
pub fn check(
    root: &OwnedFd,
    pid: i32,
    own: &[(Namespace, String)],
    expected: &Expected<'_>,
) -> Result<(), Fault> {
    for ((namespace, theirs), (_, ours)) in of(root, pid)?.iter().zip(own) {
        if theirs == ours && expected.has(layer_of(*namespace)) {
            let name = namespace.proc_name();
            return Err(Fault::Deviation(format!("its {name} namespace is ours")));
        }
    }
    if !expected.has(Layer::MountNamespace) {
        return Ok(());
    }
    let mounts = read_text(root, &format!("{pid}/mountinfo"))?;
    if is_one_read_only_root(&mounts) {
        Ok(())
    } else {
        Err(Fault::Deviation("its root is not one read-only mount".into()))
    }
}

fn layer_of(namespace: Namespace) -> Layer {
    match namespace {
        Namespace::User => Layer::UserNamespace,
        Namespace::Pid => Layer::PidNamespace,
        Namespace::Mount => Layer::MountNamespace,
        Namespace::Net => Layer::NetNamespace,
        Namespace::Ipc => Layer::IpcNamespace,
        Namespace::Uts => Layer::UtsNamespace,
        Namespace::Cgroup => Layer::CgroupNamespace,
    }
}

/// `36 35 0:30 / / ro,nosuid - tmpfs tmpfs ro`, and no other line.
fn is_one_read_only_root(mounts: &str) -> bool {
    let mut lines = mounts.lines();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let mut fields = line.split(' ').skip(4);
    let (point, options) = (fields.next(), fields.next().unwrap_or_default());
    point == Some("/") && options.split(',').any(|option| option == "ro")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_one_read_only_mount_or_it_is_not_empty() {
        let root = "36 35 0:30 / / ro,nosuid,nodev - tmpfs tmpfs ro\n";
        assert!(is_one_read_only_root(root));
        assert!(!is_one_read_only_root(&root.replace("/ ro,", "/ rw,")));
        assert!(!is_one_read_only_root(&format!("{root}{root}")));
        assert!(!is_one_read_only_root(""));
    }
}
