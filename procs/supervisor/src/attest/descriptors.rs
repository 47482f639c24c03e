//! Descriptors of a process that has no plan yet: the four it was born with, known by their inodes,
//! and nothing else but objects that belong to no file system.

use std::os::fd::OwnedFd;

use super::{Fault, Given};
use crate::open::{names, read_text};

/// Inodes of what a process may hold.
#[derive(Debug)]
pub struct Known {
    /// `/dev/null`.
    pub null: u64,
    /// eventfds, epoll instances and the like.
    pub anonymous: u64,
    /// What it was given.
    pub given: Given,
}

/// Compares the descriptors of a process; at most `extra` beyond the four.
pub fn check(root: &OwnedFd, pid: i32, known: &Known, extra: u32) -> Result<(), Fault> {
    let deviation = |what: String| Err(Fault::Deviation(what));
    let (mut born_with, mut more) = (0, 0);
    for name in names(root, &format!("{pid}/fdinfo"))? {
        let info = read_text(root, &format!("{pid}/fdinfo/{name}"))?;
        let inode = inode(&info);
        let (wanted, count) = match name.as_str() {
            "0" | "1" => (known.null, &mut born_with),
            "2" => (known.given.log, &mut born_with),
            "3" => (known.given.channel, &mut born_with),
            _ => (known.anonymous, &mut more),
        };
        *count += 1;
        if inode != Some(wanted) {
            return deviation(format!("its descriptor {name} is not what it must be"));
        }
    }
    if born_with != 4 {
        return deviation("it lacks a descriptor that it was born with".into());
    }
    if more > extra {
        return deviation(format!("it made {more} descriptors, {extra} are declared"));
    }
    Ok(())
}

fn inode(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("ino:"))?;
    line.trim().parse().ok()
}
