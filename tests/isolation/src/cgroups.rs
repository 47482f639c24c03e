//! Control group folders for a launcher under test, made as the supervisor makes them.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bulkhead_protocol::launch::CgroupFolder;

/// An instance's folders; removed on drop.
#[derive(Debug)]
pub struct Folders(Vec<(PathBuf, CgroupFolder)>);

/// Where each controller's hierarchy of version 1 is mounted by custom.
const VERSION_1: [(&str, &str); 3] = [
    ("memory", "/sys/fs/cgroup/memory"),
    ("pids", "/sys/fs/cgroup/pids"),
    ("cpu", "/sys/fs/cgroup/cpu"),
];

/// Where version 2 is mounted by custom.
const VERSION_2: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

impl Folders {
    /// Makes a folder in each hierarchy where that is allowed.
    pub fn make(name: &str) -> Self {
        let name = format!("bulkhead-test-{name}-{}", std::process::id());
        let first = VERSION_1.iter().map(|(controller, mount)| {
            let plan = CgroupFolder { version: 1, controllers: vec![(*controller).to_owned()] };
            (PathBuf::from(mount).join(&name), plan)
        });
        let second =
            VERSION_2.iter().filter_map(|mount| version_2(&PathBuf::from(mount).join(&name)));
        let made = first.filter(|(path, _)| {
            path.parent().is_some_and(|mount| mount.join("cgroup.procs").exists())
                && fs::create_dir(path).is_ok()
        });
        Self(made.chain(second).collect())
    }

    /// Whether there is one with `controller`.
    pub fn has(&self, controller: &str) -> bool {
        self.0.iter().any(|(_, plan)| plan.controllers.iter().any(|name| name == controller))
    }

    /// Version of the interface of the first of them.
    pub fn version(&self) -> u8 {
        self.0.first().map_or(0, |(_, plan)| plan.version)
    }

    /// What a launcher's plan takes.
    pub fn plan(&self) -> Vec<(CgroupFolder, OwnedFd)> {
        let open = |path| OwnedFd::from(File::open(path).expect("it was made"));
        self.0.iter().map(|(path, plan)| (plan.clone(), open(path))).collect()
    }

    /// Every file of that name in folders beneath.
    pub fn read(&self, file: &str) -> Vec<String> {
        let beneath = self.0.iter().flat_map(|(path, _)| fs::read_dir(path).into_iter().flatten());
        let files = beneath.flatten().map(|entry| entry.path().join(file));
        files
            .filter_map(|path| fs::read_to_string(path).ok())
            .map(|t| t.trim().to_owned())
            .collect()
    }

    /// Folders beneath.
    pub fn cells(&self) -> usize {
        let beneath = self.0.iter().flat_map(|(path, _)| fs::read_dir(path).into_iter().flatten());
        beneath.flatten().filter(|entry| entry.path().is_dir()).count()
    }
}

/// A folder of version 2 whose children get the controllers that the launcher needs.
fn version_2(path: &std::path::Path) -> Option<(PathBuf, CgroupFolder)> {
    let mount = path.parent()?;
    mount.join("cgroup.controllers").exists().then_some(())?;
    fs::create_dir(path).ok()?;
    let has = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    let wanted = ["memory", "pids", "cpu"].into_iter();
    let controllers: Vec<String> = wanted
        .filter(|name| has.split_whitespace().any(|word| word == *name))
        .map(str::to_owned)
        .collect();
    if controllers.is_empty() {
        let _ = fs::remove_dir(path);
        return None;
    }
    let enable: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    let _ = fs::write(path.join("cgroup.subtree_control"), enable.join(" "));
    Some((path.to_owned(), CgroupFolder { version: 2, controllers }))
}

impl Drop for Folders {
    fn drop(&mut self) {
        for (path, _) in &self.0 {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(path);
        }
    }
}
