//! The cgroup folders of an instance, one in each hierarchy where this user may make one.
//!
//! Called by the plan before anything is started; the launcher gets the folders by descriptor and
//! makes one below for each child. Limits are conditional: an ordinary user without delegation gets
//! no folder, and the layer is reported as not applicable. A folder is removed when it is dropped, or
//! by the next command when the supervisor was killed.
//!
//! The memory limit sits here and not on the children: pages of guest memory are charged to whoever
//! touches them first, and pages of an image in tmpfs to the block-layer.

mod hierarchy;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_protocol::launch::CgroupFolder;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

pub use hierarchy::{Hierarchy, hierarchies};

use crate::open::{beneath, find, folders, read_text};

/// Most processes and threads of one instance: 16 vCPUs, queues, I/O workers, with room to spare.
const MOST_TASKS: &str = "1024";

/// What an instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, if they can be told beforehand.
    pub memory: Option<u64>,
}

/// Memory of all processes beside the guest's: what they may have by their own limits, buffers of
/// the kernel, and the page cache that it needs to make progress.
const OWN_MEMORY: u64 = 512 << 20;

/// Page tables of the guest's memory, in the host and for the guest, as a part of it: 8 bytes for
/// each 4 KiB, several times over.
const PAGE_TABLES: u64 = 64;

impl Limits {
    /// Of a machine with `ram` bytes whose images lie in memory with `images` bytes.
    pub fn of_machine(ram: u64, images: u64) -> Self {
        let all = [ram, ram / PAGE_TABLES, images, OWN_MEMORY];
        Self { memory: all.into_iter().try_fold(0, u64::checked_add) }
    }

    /// Of a storage instance. Foreign frontends bring memory that is charged to us as far as we
    /// touch it first, and nobody knows how much.
    pub fn of_storage() -> Self {
        Self { memory: None }
    }
}

/// One folder that exists.
#[derive(Debug)]
pub struct Folder {
    parent: OwnedFd,
    name: String,
    path: PathBuf,
    dir: OwnedFd,
    /// What the launcher is told about it.
    pub plan: CgroupFolder,
}

impl Folder {
    /// Makes a folder `name` in a hierarchy, below the cgroup this process is in.
    pub fn make(hierarchy: &Hierarchy, name: &str, limits: &Limits) -> io::Result<Self> {
        let parent = find(&hierarchy.path)?.into_fd();
        mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
        let open = beneath(&parent, name, OFlag::O_DIRECTORY, Mode::empty());
        let dir = open.inspect_err(|_| {
            let _ = unlinkat(&parent, name, UnlinkatFlags::RemoveDir);
        })?;
        let mut folder = Self {
            parent,
            name: name.to_owned(),
            path: hierarchy.path.join(name),
            dir,
            plan: CgroupFolder {
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
            },
        };
        folder.prepare(limits);
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&mut self, limits: &Limits) {
        if self.plan.version == 2 {
            let controllers = read_text(&self.dir, "cgroup.controllers").unwrap_or_default();
            let has = |name: &&str| controllers.split_whitespace().any(|word| word == *name);
            self.plan.controllers = hierarchy::WANTED
                .iter()
                .filter(|name| has(name))
                .map(|name| (*name).to_owned())
                .collect();
            for controller in &self.plan.controllers {
                let _ = write(&self.dir, "cgroup.subtree_control", &format!("+{controller}"));
            }
        }
        if self.has("pids") {
            let _ = write(&self.dir, "pids.max", MOST_TASKS);
        }
        if let (true, Some(bytes)) = (self.has("memory"), limits.memory) {
            let file = if self.plan.version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
            let _ = write(&self.dir, file, &bytes.to_string());
        }
    }

    fn has(&self, controller: &str) -> bool {
        self.plan.controllers.iter().any(|name| name == controller)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What resists is collected by the next command.
        let _ = remove_children(self.dir.as_fd());
        let name = self.name.as_str();
        let _ = unlinkat(&self.parent, name, UnlinkatFlags::RemoveDir);
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Makes the instance's folder in every hierarchy that lets this user.
pub fn make_all(instance: &str, limits: &Limits) -> Vec<Folder> {
    let name = format!("bulkhead-{instance}-{}", std::process::id());
    let made = hierarchies()
        .into_iter()
        .filter_map(|hierarchy| Folder::make(&hierarchy, &name, limits).ok());
    made.filter(|folder| !folder.plan.controllers.is_empty()).collect()
}

/// Removes the folder of a dead instance, if nobody lives in it.
pub fn remove_tree(path: &Path) {
    let is_ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("bulkhead-"));
    if let (true, Ok(found)) = (is_ours, find(path)) {
        let _ = remove_children(found.into_fd().as_fd());
        let _ = std::fs::remove_dir(path);
    }
}

fn remove_children(folder: BorrowedFd<'_>) -> io::Result<()> {
    for name in folders(folder, ".")? {
        match unlinkat(folder, name.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write(dir: &OwnedFd, name: &str, value: &str) -> io::Result<()> {
    let file = beneath(dir, name, OFlag::O_WRONLY, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_limited_and_removed_with_its_children() {
        let limits = Limits::of_machine(1 << 30, 1 << 20);
        let folders = make_all("test", &limits);
        if folders.is_empty() {
            eprintln!("this user may make no cgroup: not tested");
            return;
        }
        for folder in folders {
            let path = folder.path().to_owned();
            std::fs::create_dir(path.join("child")).unwrap();
            let limit = |file| std::fs::read_to_string(path.join(file)).unwrap();
            if folder.has("pids") {
                assert_eq!(limit("pids.max").trim(), MOST_TASKS);
            }
            if folder.has("memory") && folder.plan.version == 1 {
                let bytes: u64 = limit("memory.limit_in_bytes").trim().parse().unwrap();
                assert_eq!(Some(bytes), limits.memory);
            }
            drop(folder);
            assert!(!path.exists());
        }
    }

    #[test]
    fn only_folders_of_ours_are_collected() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("bulkhead-a-1"), dir.path().join("system"));
        for path in [&ours, &other] {
            std::fs::create_dir(path).unwrap();
            remove_tree(path);
        }
        assert!(!ours.exists() && other.exists());
    }
}
