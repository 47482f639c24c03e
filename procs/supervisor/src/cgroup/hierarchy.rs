//! Where this process stands in each cgroup hierarchy.

use std::path::{Path, PathBuf};

/// Controllers we have a use for.
pub const WANTED: [&str; 3] = ["memory", "pids", "cpu"];

/// A hierarchy and our place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// 1 or 2.
    pub version: u8,
    /// Those of [`WANTED`] that it has (version 1; in version 2 the folder itself says).
    pub controllers: Vec<String>,
    /// Folder of the cgroup this process is in.
    pub path: PathBuf,
}

/// All hierarchies that are mounted and of use.
pub fn hierarchies() -> Vec<Hierarchy> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

fn parse(cgroups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, names, inside) = (fields.next()?, fields.next()?, fields.next()?);
        let version = if names.is_empty() { 2 } else { 1 };
        let controllers: Vec<String> =
            names.split(',').filter(|name| WANTED.contains(name)).map(str::to_owned).collect();
        if version == 1 && controllers.is_empty() {
            return None;
        }
        let mount = mounts.iter().find(|mount| mount.has(version, names))?;
        let below = Path::new(inside).strip_prefix(&mount.root).ok()?;
        let path = mount.point.join(below);
        Some(Hierarchy { version, controllers, path })
    };
    cgroups.lines().filter_map(of_line).collect()
}

/// A cgroup mount of `/proc/self/mountinfo`.
struct Mount {
    version: u8,
    root: PathBuf,
    point: PathBuf,
    options: String,
}

impl Mount {
    /// `36 35 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory`
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?.into(), left.next()?.into());
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => return None,
        };
        let options = right.nth(1)?.to_owned();
        Some(Self { version, root, point, options })
    }

    fn has(&self, version: u8, names: &str) -> bool {
        let has = |name| self.options.split(',').any(|option| option == name);
        self.version == version && (version == 2 || names.split(',').all(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_at_their_mounts() {
        let cgroups = "9:name=systemd:/\n4:memory:/a/b\n3:cpuset:/\n2:cpu,cpuacct:/c\n0::/user\n";
        let mounts = "\
            30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            33 25 0:29 / /tmp rw - tmpfs tmpfs rw,memory\n";
        let found = parse(cgroups, mounts);
        let at = |version, controllers: &[&str], path: &str| Hierarchy {
            version,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            path: path.into(),
        };
        assert_eq!(
            found,
            [
                at(1, &["memory"], "/sys/fs/cgroup/memory/a/b"),
                at(1, &["cpu"], "/sys/fs/cgroup/cpu,cpuacct/c"),
                at(2, &[], "/sys/fs/cgroup/unified/user"),
            ]
        );
    }

    #[test]
    fn a_mount_of_a_part_is_seen_from_its_root() {
        let mounts = "30 25 0:26 /box /cg rw - cgroup cgroup rw,pids";
        let found = parse("8:pids:/box/inner", mounts);
        assert_eq!(found[0].path, Path::new("/cg/inner"));
        assert!(parse("8:pids:/elsewhere", mounts).is_empty(), "out of sight");
    }
}
