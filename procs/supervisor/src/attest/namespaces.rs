//! Namespaces of its own, and an empty, read-only root.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;

use bulkhead_protocol::launch::Layer;
use nix::fcntl::readlinkat;

use super::{Expected, Fault};
use crate::open::read_text;

/// Each layer that is a namespace, with its name in `/proc/PID/ns`.
const NAMESPACES: [(Layer, &str); 7] = [
    (Layer::UserNamespace, "user"),
    (Layer::PidNamespace, "pid"),
    (Layer::MountNamespace, "mnt"),
    (Layer::NetNamespace, "net"),
    (Layer::IpcNamespace, "ipc"),
    (Layer::UtsNamespace, "uts"),
    (Layer::CgroupNamespace, "cgroup"),
];

/// Where the links of [`NAMESPACES`] lead.
pub type Namespaces = Vec<OsString>;

/// The namespaces of a process.
pub fn of(root: &OwnedFd, pid: i32) -> io::Result<Namespaces> {
    let link = |(_, name): (Layer, &str)| {
        let path = format!("{pid}/ns/{name}");
        Ok(readlinkat(root, path.as_str())?)
    };
    NAMESPACES.into_iter().map(link).collect()
}

/// None of a process's namespaces may be ours, and its root must be empty and read-only.
pub fn check(
    root: &OwnedFd,
    pid: i32,
    own: &Namespaces,
    expected: &Expected<'_>,
) -> Result<(), Fault> {
    let theirs = of(root, pid)?;
    for ((layer, name), (theirs, ours)) in NAMESPACES.iter().zip(theirs.iter().zip(own)) {
        if theirs == ours && expected.has(*layer) {
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
