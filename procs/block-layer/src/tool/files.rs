//! The files of a command, taken in the order of its message.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use bulkhead_block_layer::luks::Secret;
use bulkhead_protocol::block::RemotePlan;

use super::hands::Hands;
use super::secret::passphrase;
use super::store::Store;

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
        let (place, fd) = self.next()?;
        Ok(Placed { place, file: Store::new(fd, self.careless, self.hands.clone())? })
    }

    /// The next one, which may be a socket to a server.
    pub fn take_from(&mut self, remote: Option<RemotePlan>, read_only: bool) -> Result<Placed> {
        let Some(plan) = remote else {
            return self.take();
        };
        let (place, socket) = self.next()?;
        let remote = self.hands.servers().open(plan, socket, read_only);
        let remote = remote.map_err(|error| blame(place, error))?;
        Ok(Placed { place, file: Store::There(remote) })
    }

    /// The next one, which holds a passphrase.
    pub fn take_secret(&mut self) -> Result<Secret> {
        passphrase(self.next()?.1)
    }

    fn next(&mut self) -> Result<(u16, OwnedFd)> {
        let place = self.taken;
        let Some(fd) = self.rest.next() else {
            bail!("the command came with {place} files");
        };
        self.taken += 1;
        Ok((place, fd))
    }
}

/// Blames a file.
pub fn blame(file: u16, reason: impl std::fmt::Display) -> anyhow::Error {
    Blame { file, reason: reason.to_string() }.into()
}
