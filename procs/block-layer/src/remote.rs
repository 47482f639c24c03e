//! A disk on another program's NBD server: storage whose bytes lie behind a socket.
//!
//! ```text
//!            ┌─ requests ─┐   sent      ┌─ line ─┐
//! operation ─┤  waiting   ├────────────▶│ socket │──▶ server
//!     ▲      └────────────┘◀────────────└────────┘
//!     └── over ◀── answer        lost: waiting again
//! ```
//!
//! Used on the executor's thread like any storage; the executor's loop watches its sockets
//! ([`Remote::sockets`]) and calls [`Remote::pump`]. Sockets are the supervisor's to make: one comes with
//! the plan, others are asked for ([`News::Wanted`]) when one is lost, or when the server serves several at
//! once. Whether a socket is connected is found out here, by its first bytes.
//!
//! A line that is lost takes nothing with it: what was asked on it is asked again on the next one, in the
//! order of its first time. When there has been none for the plan's `reconnect_delay`, requests fail until
//! there is one.
//!
//! Law:
//! - A server is a peer: what it says is understood in `bulkhead_nbd`, and a line that breaks the protocol is
//!   closed. An export that comes back with another size is another export.
//! - A request that was sent is never given up because it takes long: sent again, it could land twice, the
//!   second time on top of what came later. A peer that is gone is found out by the kernel. Who wants nothing of
//!   a server any more leaves it altogether ([`abandon`](Remote::abandon)).
//! - A request that costs one line after another is at fault itself, and fails ([`requests`]).
//!
//! Absent on purpose: names, addresses, connecting.

mod alone;
mod leaving;
mod line;
mod open;
mod output;
mod reading;
mod requests;
mod storage;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bulkhead_nbd::negotiation::{Agreed, Negotiation};
use bulkhead_nbd::option::flag;
use bulkhead_nbd::reply::Extent;
use bulkhead_protocol::block::{KnownExport, LayerNumber, RemotePlan};
use bulkhead_stream::stream::Socket;
use bulkhead_stream::tls::Client;
use bulkhead_sys::readiness::{Watch, wait_any};

pub use alone::{Alone, Missed};
pub use open::RemoteError;

use crate::clock::Clock;
use crate::outcome::Failure;
use crate::task::{RangeLock, Waiting};
use line::Line;
use requests::{Question, Requests};

/// A handshake takes a few round trips.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a request is waited for while nobody else could do anything: the disk opens or closes.
const ALONE: Duration = Duration::from_secs(5);

/// Most characters of what is told about a lost line.
const LONGEST_REASON: usize = 300;

/// What the supervisor is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A socket is wanted.
    Wanted,
    /// A line is open.
    Connected(KnownExport),
    /// The last line was lost.
    Lost(String),
}

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub struct Remote(Rc<Inner>);

/// One that is gone when nobody uses it any more.
#[derive(Debug)]
pub struct Enlisted(Weak<Inner>);

#[derive(Debug)]
struct Inner {
    plan: RemotePlan,
    tls: Option<Client>,
    read_only: bool,
    clock: Rc<dyn Clock>,
    /// Whether nobody else is there to wait.
    alone: Rc<Alone>,
    export: Cell<Option<KnownExport>>,
    lines: RefCell<Vec<Line>>,
    made: Cell<u64>,
    /// Sockets that were asked for and have not come.
    asked: Cell<usize>,
    requests: RefCell<Requests>,
    /// Since when there is no open line.
    lost: Cell<Option<Duration>>,
    /// That has been for too long.
    given_up: Cell<bool>,
    /// Nobody wants anything of it any more.
    abandoned: Cell<bool>,
    /// When that is so unless somebody says otherwise.
    expires: Cell<Option<Duration>>,
    /// Since when it is asked for something and nothing has come or gone.
    quiet: Cell<Option<Duration>>,
    /// Why the last line was lost.
    reason: RefCell<Option<String>>,
    waiting: Waiting,
    news: RefCell<Vec<News>>,
    /// Keeps writes of less than the server's blocks apart.
    edges: RangeLock,
}

impl Enlisted {
    /// It, if somebody uses it.
    pub fn remote(&self) -> Option<Remote> {
        self.0.upgrade().map(Remote)
    }
}

impl Remote {
    /// It, as long as somebody else keeps it.
    pub fn enlist(&self) -> Enlisted {
        Enlisted(Rc::downgrade(&self.0))
    }

    /// Which layer of its disk it is.
    pub fn layer(&self) -> LayerNumber {
        self.0.plan.layer
    }

    /// What it has to tell, oldest first.
    pub fn news(&self) -> Vec<News> {
        self.0.news.take()
    }

    /// A socket that the supervisor made, connected or about to be.
    pub fn take(&self, socket: OwnedFd) {
        let inner = &self.0;
        inner.asked.set(inner.asked.get().saturating_sub(1));
        if inner.abandoned.get() {
            return;
        }
        inner.made.set(inner.made.get() + 1);
        let until = inner.clock.now() + HANDSHAKE;
        let negotiation = Negotiation::new(inner.wish());
        inner.lines.borrow_mut().push(Line::new(inner.made.get(), socket, negotiation, until));
        self.pump();
    }

    /// What is to be watched: its sockets, and whether for room as well.
    pub fn sockets(&self) -> Vec<(Socket, bool)> {
        self.0.lines.borrow().iter().filter_map(Line::watched).collect()
    }

    /// Whether something came that nobody has looked at, though its socket may be empty.
    pub fn is_busy(&self) -> bool {
        self.0.lines.borrow().iter().any(|line| line.more)
    }

    /// When [`due`](Self::due) has something to do next.
    pub fn next_due(&self) -> Option<Duration> {
        let inner = &self.0;
        let lines = inner.lines.borrow();
        let handshakes = lines.iter().filter_map(Line::until);
        handshakes.chain(inner.gives_up()).chain(inner.expires.get()).min()
    }

    /// Ends what has taken too long.
    pub fn due(&self, now: Duration) {
        let inner = &self.0;
        let late = |line: &Line| line.until().is_some_and(|until| until <= now);
        let (gone, left) = inner.lines.take().into_iter().partition(late);
        inner.lines.replace(left);
        let gone: Vec<Line> = gone;
        for line in gone {
            inner.lose(&line, "it did not finish its handshake in time".to_owned());
        }
        if inner.gives_up().is_some_and(|until| until <= now) {
            inner.given_up.set(true);
            inner.requests.borrow_mut().fail_waiting(Failure::IO);
        }
        if inner.expires.get().is_some_and(|until| until <= now) {
            self.abandon();
        }
        inner.want();
    }

    /// Sends and receives what can be, without waiting.
    pub fn pump(&self) {
        let inner = &self.0;
        let (mut left, mut gone) = (Vec::new(), Vec::new());
        for mut line in inner.lines.take() {
            let was_open = line.agreed().is_some();
            let pumped = line.pump(&mut inner.requests.borrow_mut(), inner.tls.as_ref());
            inner.heard(line.has_moved());
            let pumped = pumped.and_then(|()| match (was_open, line.agreed()) {
                (false, Some(agreed)) => inner.opened(agreed),
                _ => Ok(()),
            });
            match pumped {
                Ok(()) => left.push(line),
                Err(reason) => gone.push((line, reason)),
            }
        }
        inner.lines.borrow_mut().extend(left);
        for (line, reason) in gone {
            inner.lose(&line, reason);
        }
        inner.ask_waiting();
        inner.want();
    }

    /// The server is told that this client leaves, if there is room for it.
    pub fn farewell(&self) {
        for line in &mut *self.0.lines.borrow_mut() {
            line.farewell();
        }
    }

    /// Asks, and waits for the answer.
    async fn ask(&self, question: Question) -> Result<Vec<Extent>, Failure> {
        let inner = &self.0;
        if inner.given_up.get() || inner.abandoned.get() {
            return Err(Failure::IO);
        }
        let cookie = inner.requests.borrow_mut().insert(question);
        if inner.quiet.get().is_none() {
            inner.quiet.set(Some(inner.clock.now()));
        }
        inner.ask_waiting();
        if inner.alone.is_so() {
            self.ask_alone(cookie);
        }
        std::future::poll_fn(|context| inner.requests.borrow_mut().poll(cookie, context.waker()))
            .await
    }

    /// Waits for the answer where it is. That there was nobody to give one is noted.
    fn ask_alone(&self, cookie: u64) {
        let inner = &self.0;
        let over = || inner.requests.borrow().is_over(cookie);
        if !self.wait_alone(over) {
            inner.requests.borrow_mut().end(cookie, Err(Failure::IO));
            inner.miss("it does not answer");
        } else if !inner.lines.borrow().iter().any(Line::is_open) {
            inner.miss("there is no connection with it");
        }
    }

    /// Waits where it is until `holds`; `false`: in vain.
    fn wait_alone(&self, holds: impl Fn() -> bool) -> bool {
        let until = self.0.clock.now() + ALONE;
        while !holds() {
            let now = self.0.clock.now();
            let sockets = self.sockets();
            if sockets.is_empty() || now >= until {
                return false;
            }
            let watched: Vec<_> =
                sockets.iter().map(|(socket, room)| Watch::new(socket, *room)).collect();
            let time = if self.is_busy() { Duration::ZERO } else { until - now };
            // An error is one of a socket, which shows when it is used.
            let _ = wait_any(&watched, Some(time));
            self.pump();
            self.due(self.0.clock.now());
        }
        true
    }
}

impl Inner {
    fn wish(&self) -> bulkhead_nbd::negotiation::Wish {
        let (export, tls) = (self.plan.export.clone(), self.tls.is_some());
        bulkhead_nbd::negotiation::Wish { export, tls }
    }

    /// When waiting requests fail.
    fn gives_up(&self) -> Option<Duration> {
        let delay = Duration::from_millis(self.plan.reconnect_delay_ms.into());
        self.lost.get().filter(|_| !self.given_up.get()).map(|lost| lost + delay)
    }

    /// A line has agreed with its server.
    fn opened(&self, agreed: Agreed) -> Result<(), String> {
        let Agreed { size, flags, minimum, maximum, .. } = agreed;
        let export = KnownExport { size, flags, minimum, maximum };
        if agreed.has(flag::READ_ONLY) && !self.read_only {
            return Err("its export is read-only; add readonly".to_owned());
        }
        if let Some(known) = self.export.get()
            && (known.size, known.minimum) != (export.size, export.minimum)
        {
            return Err("its export is not what it was".to_owned());
        }
        self.export.set(Some(export));
        self.reason.take();
        self.lost.set(None);
        self.given_up.set(false);
        self.news.borrow_mut().push(News::Connected(export));
        self.waiting.wake();
        Ok(())
    }

    /// A line is no more; what was asked on it waits again.
    fn lose(&self, line: &Line, reason: String) {
        // A certificate may have any number of names, and a message has an end.
        let reason: String = reason.chars().take(LONGEST_REASON).collect();
        self.requests.borrow_mut().lose(line.id());
        let last = !self.lines.borrow().iter().any(Line::is_open);
        *self.reason.borrow_mut() = Some(reason.clone());
        self.waiting.wake();
        if line.is_open() && last && self.lost.get().is_none() {
            self.lost.set(Some(self.clock.now()));
            self.news.borrow_mut().push(News::Lost(reason));
        }
    }

    /// Nobody was there while everybody waited.
    fn miss(&self, what: &str) {
        let reason = self.reason.borrow().clone();
        self.alone.miss(self.plan.layer, reason.unwrap_or_else(|| what.to_owned()));
    }

    /// Lets waiting requests be sent by the lines that have least to do.
    fn ask_waiting(&self) {
        let (mut lines, mut requests) = (self.lines.borrow_mut(), self.requests.borrow_mut());
        while let Some(cookie) = requests.first_waiting() {
            let suspect = requests.is_suspect(cookie);
            let free = lines.iter_mut().filter(|line| line.has_room(suspect));
            let Some(line) = free.min_by_key(|line| line.outstanding()) else {
                break;
            };
            line.ask(cookie, suspect, &mut requests);
        }
        for line in lines.iter_mut().filter(|line| line.has_output()) {
            // A line that cannot send cannot receive either: the next pump finds out.
            let _ = line.send();
        }
    }

    /// Asks for sockets that are lacking.
    fn want(&self) {
        let export = self.export.get();
        let many = export.is_some_and(|export| export.flags & flag::CAN_MULTI_CONN != 0);
        let wanted = match (export, many) {
            // The first one is all there is: the disk opens with it or does not.
            (None, _) => return,
            _ if self.abandoned.get() => return,
            (Some(_), true) => usize::from(self.plan.connections.max(1)),
            (Some(_), false) => 1,
        };
        let there = self.lines.borrow().len() + self.asked.get();
        for _ in there..wanted {
            self.asked.set(self.asked.get() + 1);
            self.news.borrow_mut().push(News::Wanted);
        }
        // A first handshake is no loss yet.
        if self.lines.borrow().is_empty() && self.lost.get().is_none() {
            self.lost.set(Some(self.clock.now()));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for line in &mut *self.lines.borrow_mut() {
            line.farewell();
        }
    }
}

#[cfg(test)]
mod tests;
