//! The loop: sockets, the ring, the supervisor, the clock.
//!
//! One turn takes what has come, in this order: the supervisor's words, newcomers, completions, clients.
//! Then everything that went on the ring is shown to block-layer at once. Between two turns it waits as
//! [`Pace`] says while something is out, and sleeps otherwise. A turn that begins with completions does
//! not look at the sockets; the next one does.

mod clients;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_block_client::LinkFault;
use bulkhead_protocol::nbd::{NbdCommand, NbdEvent};
use bulkhead_ring::{Client as Ring, Pace, Step};
use bulkhead_runtime::{Helper, Incoming, RuntimeError};
use bulkhead_sys::accept::accept_any;
use bulkhead_sys::poller::{Event, Interest, Poller, Token};
use bulkhead_sys::stream;
use rustls::ServerConfig;

use crate::client::Gone;
use crate::desk::Desk;
use crate::limits::{ROOM, ROOMY_CLIENTS, SWEEP};
use crate::owner::ClientDone;
use crate::plan::Live;
use crate::replay::replay;
use clients::Clients;

const SUPERVISOR: Token = 0;
const LISTENER: Token = 1;
const RING: Token = 2;

/// Newcomers of one turn.
const MOST_NEWCOMERS: usize = 32;

/// Completions of one turn.
const MOST_COMPLETIONS: usize = 256;

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The supervisor ended it, or broke the channel.
    #[error(transparent)]
    Supervisor(#[from] RuntimeError),
    /// The supervisor said something that makes no sense.
    #[error("the supervisor sent {0}")]
    Command(String),
    /// Block-layer broke the ring.
    #[error("block-layer: {0}")]
    Link(#[from] LinkFault),
    /// The kernel refused.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// How a turn begins.
enum Rest {
    /// With completions that are there.
    Completions,
    /// With news, for which it waits so long.
    Wait(Option<Duration>),
}

impl Rest {
    /// With news, if there are any.
    const LOOK: Self = Self::Wait(Some(Duration::ZERO));
}

/// The server.
pub struct Server {
    helper: Helper<NbdCommand, NbdEvent>,
    poller: Poller,
    listener: OwnedFd,
    /// The host had no room for a newcomer: none is taken before the next sweep.
    closed: bool,
    /// No client is taken any more.
    over: bool,
    desk: Desk,
    tls: Option<Arc<ServerConfig>>,
    clients: Clients,
    pace: Pace,
    /// The last turn began without a look at the sockets.
    skipped: bool,
    began: Instant,
    swept: Instant,
    /// A line about a client was written since.
    complained: bool,
    told_progress: bool,
}

impl Server {
    /// A server of what a plan came to. `poller` was made before the seal.
    pub fn new(
        helper: Helper<NbdCommand, NbdEvent>,
        poller: Poller,
        live: Live,
    ) -> Result<Self, ServerError> {
        let Live { export, link, listener, tls } = live;
        poller.add(&helper, SUPERVISOR, Interest::Read)?;
        poller.add(&listener, LISTENER, Interest::Read)?;
        poller.add(link.bell(), RING, Interest::Read)?;
        let now = Instant::now();
        Ok(Self {
            helper,
            poller,
            listener,
            closed: false,
            over: false,
            desk: Desk::new(export, link),
            tls,
            clients: Clients::default(),
            pace: Pace::new(),
            skipped: false,
            began: now,
            swept: now,
            complained: false,
            told_progress: false,
        })
    }

    /// Serves until the supervisor ends it (`Ok`) or it cannot go on.
    pub fn run(mut self) -> Result<(), ServerError> {
        self.helper.ready()?;
        let mut news = Vec::new();
        loop {
            match self.turn(&mut news) {
                Ok(()) => {}
                Err(ServerError::Supervisor(RuntimeError::Closed)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn turn(&mut self, news: &mut Vec<Event>) -> Result<(), ServerError> {
        news.clear();
        match self.rest()? {
            Rest::Completions => {}
            Rest::Wait(time) => self.poller.wait(time, news)?,
        }
        self.desk.link.disarm();
        let now = Instant::now();
        self.desk.now = now;
        for event in news.iter() {
            match event.token {
                SUPERVISOR => self.hear()?,
                LISTENER => self.welcome(now)?,
                RING => {
                    self.desk.link.bell().clear();
                }
                _ => self.clients.note(event),
            }
        }
        self.complete()?;
        self.serve()?;
        self.desk.publish();
        self.tell_progress()?;
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.sweep(now)?;
        }
        Ok(())
    }

    /// Waits for a completion as long as that is worth while, and says how the turn begins.
    fn rest(&mut self) -> Result<Rest, ServerError> {
        let looked = !std::mem::take(&mut self.skipped);
        while self.desk.link.outstanding() > 0 {
            if self.desk.link.is_ready()? {
                self.pace.found();
                self.skipped = looked;
                return Ok(if looked { Rest::Completions } else { Rest::LOOK });
            }
            let shared = self.desk.link.shares_cpu();
            let due = self.clients.are_due();
            match self.pace.next(shared, self.began.elapsed()) {
                Step::YieldOnce => self.yield_once(),
                // There is something to do; a look at the ring comes with the next turn.
                _ if due => {
                    self.pace.found();
                    return Ok(Rest::LOOK);
                }
                Step::Spin => std::hint::spin_loop(),
                Step::Arm if self.desk.link.arm()? => break,
                Step::Arm => return Ok(Rest::LOOK),
            }
        }
        let idle = self.clients.is_empty() && !self.closed;
        Ok(match (self.clients.are_due(), idle) {
            (true, _) => Rest::LOOK,
            (false, true) => Rest::Wait(None),
            (false, false) => Rest::Wait(Some(SWEEP)),
        })
    }

    fn yield_once(&mut self) {
        let before = self.began.elapsed();
        std::thread::yield_now();
        let after = self.began.elapsed();
        self.pace.yielded(after.saturating_sub(before), after);
    }

    fn hear(&mut self) -> Result<(), ServerError> {
        while let Some(incoming) = self.helper.try_receive()? {
            match incoming {
                Incoming::Heartbeat(number) => self.helper.alive(number, self.desk.completed)?,
                Incoming::Stop => return Err(RuntimeError::Closed.into()),
                Incoming::Role(NbdCommand::RingReplaced { incarnation, own_fault }, fds) => {
                    let ring = fds.into_iter().next();
                    let ring = ring.ok_or(ServerError::Command("no ring".into()))?;
                    self.replace(ring, incarnation, own_fault)?;
                }
                Incoming::Role(NbdCommand::Resized { size }, _) => {
                    self.desk.export.disk.size = size
                }
                Incoming::Role(NbdCommand::Close, _) => self.close()?,
                Incoming::Role(NbdCommand::Plan(_), _) => {
                    return Err(ServerError::Command("a second plan".into()));
                }
            }
        }
        Ok(())
    }

    /// The export is to be removed if nobody uses it. Who waits in the socket's backlog is nobody yet.
    fn close(&mut self) -> Result<(), ServerError> {
        let clients = self.clients.count() as u32;
        if clients > 0 {
            return Ok(self.helper.event(&NbdEvent::InUse { clients })?);
        }
        if !std::mem::replace(&mut self.over, true) && !std::mem::take(&mut self.closed) {
            self.poller.remove(&self.listener)?;
        }
        Ok(self.helper.event(&NbdEvent::Closed)?)
    }

    /// Block-layer died: everything that was with it goes to its successor.
    fn replace(
        &mut self,
        ring: OwnedFd,
        incarnation: u64,
        own_fault: bool,
    ) -> Result<(), ServerError> {
        let ring = Ring::attach(ring, self.desk.link.geometry(), incarnation);
        let ring = ring.map_err(|error| ServerError::Command(error.to_string()))?;
        let (old, poison) = replay(&mut self.desk.link, ring, own_fault)?;
        self.clients.moved(&old, self.desk.link.arena());
        for done in poison {
            self.helper.event(&NbdEvent::PoisonRequest)?;
            self.finish(done)?;
        }
        Ok(())
    }

    fn welcome(&mut self, now: Instant) -> Result<(), ServerError> {
        for _ in 0..MOST_NEWCOMERS {
            if self.over {
                break;
            }
            match accept_any(&self.listener) {
                Ok(Some((socket, local))) => {
                    if local && self.clients.count() < ROOMY_CLIENTS {
                        // A host that refuses it has slower clients and nothing else.
                        let _ = stream::hold(&socket, ROOM);
                    }
                    self.admit(socket, now)?;
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.closed = true;
                    self.poller.remove(&self.listener)?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self, socket: OwnedFd, now: Instant) -> Result<(), ServerError> {
        if let Some(place) = self.clients.to_be_displaced() {
            self.drop_client(place, None)?;
        }
        // Without a place the socket is closed: the newcomer sees a hang-up.
        let Some((token, client)) = self.clients.admit(socket, self.tls.clone(), now) else {
            return Ok(());
        };
        client.watched = Some(Interest::Read);
        if let Some(socket) = client.stream().socket() {
            self.poller.add(socket, token, Interest::Read)?;
        }
        Ok(())
    }

    /// Takes completions.
    fn complete(&mut self) -> Result<(), ServerError> {
        let mut any = false;
        for _ in 0..MOST_COMPLETIONS {
            let Some(done) = self.desk.link.next_done()? else { break };
            self.finish(done)?;
            any = true;
        }
        if any {
            self.pace.found();
            self.clients.wake_blocked();
        }
        Ok(())
    }

    fn finish(&mut self, done: ClientDone) -> Result<(), ServerError> {
        let Some(client) = self.clients.of(done.piece.whose.owner) else {
            // Its client is gone.
            self.desk.link.release(done.span);
            return Ok(());
        };
        let owner = done.piece.whose.owner;
        let finished = client.finish(done, &mut self.desk);
        self.clients.wake(owner.place);
        match finished {
            Ok(()) => Ok(()),
            Err(gone) => self.part(owner.place, gone),
        }
    }

    /// Serves every client that has news or is due.
    fn serve(&mut self) -> Result<(), ServerError> {
        let mut again = Vec::new();
        for place in self.clients.take_due() {
            let had_batch = self.desk.has_batch();
            let Some(client) = self.clients.at(place) else { continue };
            let served = client.serve(&mut self.desk);
            let served = served.and_then(|again| {
                watch(&self.poller, client)?;
                Ok(again)
            });
            match served {
                // Whoever found the batch full comes before those who filled it.
                Ok(true) if had_batch => self.clients.wake(place),
                Ok(true) => again.push(place),
                Ok(false) => {}
                Err(gone) => self.part(place, gone)?,
            }
        }
        again.into_iter().for_each(|place| self.clients.wake(place));
        if std::mem::take(&mut self.desk.freed) {
            self.clients.wake_blocked();
        }
        Ok(())
    }

    /// A client is gone.
    fn part(&mut self, place: u32, gone: Gone) -> Result<(), ServerError> {
        match gone {
            Gone::Link(fault) => Err(fault.into()),
            Gone::Closed => self.drop_client(place, None),
            gone => self.drop_client(place, Some(&gone.to_string())),
        }
    }

    fn drop_client(&mut self, place: u32, why: Option<&str>) -> Result<(), ServerError> {
        if let Some(client) = self.clients.remove(place) {
            client.abandon(&mut self.desk);
            self.clients.wake_blocked();
        }
        if let (Some(why), false) = (why, self.complained) {
            // One line a second: clients must not fill anybody's log.
            self.complained = true;
            bulkhead_runtime::log(&format!("nbd-server: a client was dropped: {why}"));
        }
        Ok(())
    }

    /// Drops who is late, and lets newcomers in again.
    fn sweep(&mut self, now: Instant) -> Result<(), ServerError> {
        self.swept = now;
        self.complained = false;
        if std::mem::take(&mut self.closed) {
            self.poller.add(&self.listener, LISTENER, Interest::Read)?;
        }
        for place in self.clients.late(now) {
            self.drop_client(place, Some("it took too long"))?;
        }
        Ok(())
    }

    fn tell_progress(&mut self) -> Result<(), ServerError> {
        if self.desk.completed > 0 && !std::mem::replace(&mut self.told_progress, true) {
            self.helper.progressed()?;
        }
        Ok(())
    }
}

/// Watches a client's socket for what it waits for.
fn watch(poller: &Poller, client: &mut crate::client::Client) -> io::Result<()> {
    let wanted = client.interest();
    if client.watched == Some(wanted) {
        return Ok(());
    }
    client.watched = Some(wanted);
    let token = clients::token(client.owner());
    match client.stream().socket() {
        Some(socket) => poller.modify(socket.as_fd(), token, wanted),
        None => Ok(()),
    }
}
