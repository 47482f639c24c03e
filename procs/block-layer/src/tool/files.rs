//! The files of a command, taken in the order of its message.

use std::os::fd::OwnedFd;

use super::hands::Hands;
use super::store::Store;
use anyhow::{Result, bail};

/// What is wrong with which file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Blame {
    /// Its place among the descriptors.
    pub file: u16,
    /// What.
    pub reason: String,
}

/// A file and its place.
#[derive(Debug)]
pub struct Placed {
    /// Its place among the descriptors.
    pub place: u16,
    /// It.
    pub file: Store,
}

/// Descriptors that nobody has taken yet.
#[derive(Debug)]
pub struct Files {
    rest: std::vec::IntoIter<OwnedFd>,
    taken: u16,
    careless: bool,
    hands: Hands,
}

impl Files {
    /// All that came with the command.
    pub fn new(fds: Vec<OwnedFd>, hands: Hands) -> Self {
        Self { rest: fds.into_iter(), taken: 0, careless: false, hands }
    }

    /// From now on flushes wait for nothing.
    pub fn be_careless(&mut self) {
        self.careless = true;
    }

    /// The next one.
    pub fn take(&mut self) -> Result<Placed> {
        let place = self.taken;
        let Some(fd) = self.rest.next() else {
            bail!("the command came with {place} files");
        };
        self.taken += 1;
        Ok(Placed { place, file: Store::new(fd, self.careless, self.hands.clone())? })
    }
}

/// Blames a file.
pub fn blame(file: u16, reason: impl std::fmt::Display) -> anyhow::Error {
    Blame { file, reason: reason.to_string() }.into()
}
