//! A file that is made for a command, and removed if the command fails.
//!
//! Called for the files of snapshots and jobs. It is made with `O_EXCL` and for its user alone: what is there
//! already is never written over. Law: only the very file that was made is removed, wherever its name may
//! lead by then.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bulkhead_protocol::session::Refusal;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::open::{Identity, beneath, find};
use crate::refusal::{refuse, refuse_path};

/// A file that was made, and goes away with this unless it is kept.
#[derive(Debug)]
pub struct Fresh {
    folder: OwnedFd,
    name: String,
    identity: Identity,
    kept: bool,
}

impl Fresh {
    /// Makes an empty file.
    pub fn make(option: &str, path: &Path) -> Result<Self, Refusal> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(refuse(option, path.display(), "it names no file", "give another path"));
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        let folder = find(parent).map_err(|error| refuse_path(option, path, &error))?.into_fd();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let made = beneath(&folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let refused = |error: io::Error| match error.raw_os_error() {
            Some(libc::EEXIST) => {
                let remedy = "choose another path, or add 'existing' to write into this file";
                refuse(option, path.display(), "it is there already", remedy)
            }
            _ => refuse_path(option, path, &error),
        };
        let file = made.map_err(refused)?;
        let stat = nix::sys::stat::fstat(&file);
        let stat = stat.map_err(|error| refuse_path(option, path, &error.into()))?;
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        Ok(Self { folder, name: name.to_owned(), identity, kept: false })
    }

    /// The command succeeded.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let name = self.name.as_str();
        let there = fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let is_ours = there.is_ok_and(|there| {
            (there.st_dev, there.st_ino) == (self.identity.device, self.identity.inode)
        });
        if is_ours {
            // It is empty, or half of something: nobody misses it if it cannot be removed.
            let _ = unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// The path without `.` and `..`, by its text alone: nothing is looked up.
pub fn plain(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_away_unless_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        drop(Fresh::make("--disk d0", &path).unwrap());
        assert!(!path.exists());
        Fresh::make("--disk d0", &path).unwrap().keep();
        assert!(path.exists());
    }

    #[test]
    fn what_is_there_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "mine").unwrap();
        let refusal = Fresh::make("--disk d0", &path).unwrap_err();
        assert!(refusal.reason.contains("there already"), "{refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn another_file_that_has_got_the_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let fresh = Fresh::make("--disk d0", &path).unwrap();
        std::fs::write(folder.path().join("b"), "other").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        drop(fresh);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
    }

    #[test]
    fn a_path_is_made_plain_by_its_text() {
        assert_eq!(plain(Path::new("/a/b/../c/./d")), Path::new("/a/c/d"));
        assert_eq!(plain(Path::new("/../a")), Path::new("/a"));
    }
}
