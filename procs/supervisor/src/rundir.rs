//! The folder of an instance: `…/bulkhead/NAME`.
//!
//! ```text
//! lock         held by the living supervisor; free: the instance is dead
//! state.json   what it has taken, for other commands and for whoever collects it
//! control      the control socket
//! ```
//!
//! Called by the plan ([`RunDir::claim`]) and by every start for the dead ([`collect`]). A claim that is
//! dropped removes the folder: to be dropped last, when nobody of the instance lives. Law: a folder is
//! removed only by who holds its lock, and everything in it by name, so that a stranger's file stops
//! the removal instead of being lost.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_protocol::record::{CONTROL, InstanceRecord, LOCK, RECORD};
use bulkhead_sys::file_lock::{LockKind, try_lock};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::listener::{Listener, Traffic};
use crate::open::beneath;

/// Everything that a folder may hold, the lock last.
const ENTRIES: [&str; 5] = [CONTROL, HIDDEN_CONTROL, RECORD, NEW_RECORD, LOCK];

/// Name of the control socket until it is served.
const HIDDEN_CONTROL: &str = "control.new";

/// Name of a record until it is whole.
const NEW_RECORD: &str = "state.new";

/// Why a name cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// An instance of this name runs.
    #[error("an instance of this name runs")]
    Taken(Option<Box<InstanceRecord>>),
    /// The kernel refused.
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl From<Errno> for ClaimError {
    fn from(error: Errno) -> Self {
        Self::Host(error.into())
    }
}

/// The folder of this instance, locked.
#[derive(Debug)]
pub struct RunDir {
    root: OwnedFd,
    name: String,
    dir: OwnedFd,
    _lock: OwnedFd,
}

impl RunDir {
    /// Makes and locks the folder `name` in `root`. What a dead instance left in it is removed.
    pub fn claim(root: OwnedFd, name: &str) -> Result<Self, ClaimError> {
        loop {
            match mkdirat(&root, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let Some((dir, lock)) = open_and_lock(&root, name)? else {
                continue;
            };
            let Some(lock) = lock else {
                return Err(ClaimError::Taken(read_record(&dir).map(Box::new)));
            };
            if let Some(record) = read_record(&dir) {
                crate::leftovers::remove(&record);
            }
            for entry in [CONTROL, HIDDEN_CONTROL, RECORD, NEW_RECORD] {
                remove_entry(&dir, entry)?;
            }
            return Ok(Self { root, name: name.to_owned(), dir, _lock: lock });
        }
    }

    /// The control socket, still under its temporary name.
    pub fn bind_control(&self) -> io::Result<Listener> {
        Listener::bind(self.dir.try_clone()?, CONTROL, HIDDEN_CONTROL, Traffic::Messages)
    }

    /// Leaves the record.
    pub fn write_record(&self, record: &InstanceRecord) -> io::Result<()> {
        self.write(RECORD, record)
    }

    /// Leaves another record: readers see the old one or the new one.
    pub fn replace_record(&self, record: &InstanceRecord) -> io::Result<()> {
        remove_entry(&self.dir, NEW_RECORD)?;
        self.write(NEW_RECORD, record)?;
        Ok(renameat(&self.dir, NEW_RECORD, &self.dir, RECORD)?)
    }

    fn write(&self, name: &str, record: &InstanceRecord) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = beneath(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let text = serde_json::to_vec(record)?;
        File::from(file).write_all(&text)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // What cannot be removed now is collected by the next command.
        let _ = remove_locked(&self.root, &self.name, &self.dir);
    }
}

/// The records of all living instances in `root`.
pub fn living(root: impl AsFd) -> Vec<InstanceRecord> {
    let root = root.as_fd();
    let alive = names(root).into_iter().filter_map(|name| {
        let (dir, lock) = open_and_lock(root, &name).ok()??;
        match lock {
            None => read_record(&dir),
            Some(_) => None,
        }
    });
    alive.collect()
}

/// Removes what dead instances have left in `root`, and what their records name.
pub fn collect(root: impl AsFd) {
    let root = root.as_fd();
    for name in names(root) {
        if let Ok(Some((dir, Some(_lock)))) = open_and_lock(root, &name) {
            if let Some(record) = read_record(&dir) {
                crate::leftovers::remove(&record);
            }
            // What cannot be removed now is tried again by the next command.
            let _ = remove_locked(root, &name, &dir);
        }
    }
}

/// Opens a folder and tries its lock. Outer `None`: it was removed meanwhile. Inner `None`: its
/// owner lives.
fn open_and_lock(
    root: impl AsFd,
    name: &str,
) -> Result<Option<(OwnedFd, Option<OwnedFd>)>, ClaimError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let Some(dir) = present(beneath(&root, name, flags, Mode::empty()))? else {
        return Ok(None);
    };
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    let Some(lock) = present(beneath(&dir, LOCK, flags, Mode::S_IRUSR | Mode::S_IWUSR))? else {
        return Ok(None);
    };
    if !try_lock(&lock, LockKind::Exclusive, 0, 1)? {
        return Ok(Some((dir, None)));
    }
    // Somebody may have removed it between our open and our lock: then the lock guards nothing.
    let linked = fstatat(&dir, LOCK, AtFlags::AT_SYMLINK_NOFOLLOW);
    match linked {
        Ok(linked) if linked.st_ino == fstat(&lock)?.st_ino => Ok(Some((dir, Some(lock)))),
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn present(result: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match result {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_record(dir: &OwnedFd) -> Option<InstanceRecord> {
    let text = crate::open::read_text(dir, RECORD).ok()?;
    serde_json::from_str(&text).ok()
}

fn remove_locked(root: impl AsFd, name: &str, dir: &OwnedFd) -> io::Result<()> {
    for entry in ENTRIES {
        remove_entry(dir, entry)?;
    }
    Ok(unlinkat(root, name, UnlinkatFlags::RemoveDir)?)
}

fn remove_entry(dir: &OwnedFd, entry: &str) -> io::Result<()> {
    match unlinkat(dir, entry, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Names in `root` that may be instances'.
fn names(root: impl AsFd) -> Vec<String> {
    let names = crate::open::folders(root, ".").unwrap_or_default();
    names.into_iter().filter(|name| !name.starts_with('.')).collect()
}

#[cfg(test)]
mod tests;
