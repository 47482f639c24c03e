//! Exports of NBD servers that a command uses, and waiting for their servers.
//!
//! One connection each, which the command has made. One that is lost is not made again: what is asked of
//! that server fails from then on.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bulkhead_block_layer::clock::Clock;
use bulkhead_block_layer::remote::{Alone, News, Remote, RemoteError};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::RemotePlan;
use bulkhead_sys::readiness::{Watch, wait_any};

/// See the module.
#[derive(Debug)]
pub struct Servers {
    began: Rc<Began>,
    /// One operation after the other: whoever asks waits where he is.
    alone: Rc<Alone>,
    all: RefCell<Vec<Remote>>,
}

/// The clock of the process.
#[derive(Debug)]
struct Began(Instant);

impl Clock for Began {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Nothing here waits for a time but this module's own wait.
    fn wake_at(&self, _until: Duration, waker: Waker) {
        waker.wake();
    }
}

impl Servers {
    /// None as yet.
    pub fn new() -> Self {
        let servers = Self {
            began: Rc::new(Began(Instant::now())),
            alone: Rc::default(),
            all: RefCell::default(),
        };
        servers.set_alone(true);
        servers
    }

    /// Speaks with a server by a socket until it has said what its export is.
    pub fn open(
        &self,
        plan: RemotePlan,
        socket: OwnedFd,
        read_only: bool,
    ) -> Result<Remote, RemoteError> {
        let clock = Rc::clone(&self.began) as Rc<dyn Clock>;
        let remote = Remote::begin(plan, socket, read_only, clock, Rc::clone(&self.alone))?;
        finish(remote.known())?;
        self.all.borrow_mut().push(remote.clone());
        Ok(remote)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Whether operations wait where they are, or as tasks wait.
    pub fn set_alone(&self, alone: bool) {
        self.alone.set(alone);
    }

    /// Waits until one of them has something to say, and listens to them all.
    pub fn wait(&self) {
        let remotes = self.all.borrow();
        let sockets: Vec<_> = remotes.iter().flat_map(Remote::sockets).collect();
        let watched: Vec<_> =
            sockets.iter().map(|(socket, room)| Watch::new(socket, *room)).collect();
        let now = self.began.now();
        let due = remotes.iter().filter_map(Remote::next_due).min();
        let due = due.map(|due| due.saturating_sub(now));
        let busy = remotes.iter().any(Remote::is_busy).then_some(Duration::ZERO);
        // An error is one of a socket, which shows when it is used.
        let _ = wait_any(&watched, busy.or(due));
        let now = self.began.now();
        for remote in remotes.iter() {
            remote.pump();
            remote.due(now);
        }
    }

    /// Why one of them was lost, if one was.
    pub fn lost(&self) -> Option<String> {
        let mut news =
            self.all.borrow().iter().flat_map(Remote::news).collect::<Vec<_>>().into_iter();
        news.find_map(|news| match news {
            News::Lost(reason) => Some(reason),
            News::Wanted | News::Connected(_) => None,
        })
    }
}
