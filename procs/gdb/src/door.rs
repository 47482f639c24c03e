//! The listening socket, while no client is there.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_sys::accept::accept;
use bulkhead_sys::poller::{Interest, Poller, Token};

use crate::fault::Fault;
use crate::link::Link;

/// Tokens of the process's poller. The supervisor's and core's channels are always in it, the listening
/// socket and a client's in turns.
pub const SUPERVISOR: Token = 0;
/// Core's channel.
pub const CORE: Token = 1;
const LISTENER: Token = 2;
/// A client's socket.
pub const CLIENT: Token = 3;

/// How long the listener is left alone after the kernel refused an accept (no descriptor, no memory).
const REST: Duration = Duration::from_millis(200);

/// The listening socket.
pub struct Door {
    listener: OwnedFd,
    poller: Poller,
}

impl Door {
    /// Takes a listening stream socket that does not block.
    pub fn new(listener: OwnedFd, poller: &Poller) -> Result<Self, Fault> {
        Ok(Self { listener, poller: poller.clone() })
    }

    /// The next client.
    pub fn next(&mut self, link: &mut Link) -> Result<OwnedFd, Fault> {
        self.poller.add(&*link, CORE, Interest::Read)?;
        let client = self.wait(link);
        self.poller.remove(&*link)?;
        client
    }

    fn wait(&self, link: &mut Link) -> Result<OwnedFd, Fault> {
        let mut news = Vec::new();
        loop {
            self.poller.add(&self.listener, LISTENER, Interest::Read)?;
            let accepted = loop {
                news.clear();
                self.poller.wait(None, &mut news)?;
                link.hear_supervisor()?;
                link.hear_core()?;
                if news.iter().any(|event| event.token == LISTENER) {
                    break accept(&self.listener);
                }
            };
            self.poller.remove(&self.listener)?;
            match accepted {
                Ok(Some(client)) => return Ok(client),
                Ok(None) => {}
                // It would be readable again and again.
                Err(_) => {
                    news.clear();
                    self.poller.wait(Some(REST), &mut news)?;
                }
            }
        }
    }
}
