//! All clients, the listener, and the calls that wait for the supervisor.
//!
//! Called by `main` with the news of the poller and with what the supervisor said. Requests that
//! passed the judge are left in [`Server::calls`] for `main` to send. Nothing in here blocks, and no
//! client's fault is an error of the process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::control::{Response, ToSupervisor};
use bulkhead_protocol::event::Event;
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::{self, Interest, Poller, Token};

use crate::client::{ANSWER, Client, State};
use crate::judge::{self, Verdict};

/// Connections at a time. More are told so and closed.
pub const MOST_CLIENTS: usize = 32;

/// Connections accepted in one turn, so that a flood of them delays no answer and no heartbeat.
const MOST_ACCEPTS: usize = 8;

/// How long the listener is left alone after the kernel refused an accept (no descriptor, no memory).
const REST: Duration = Duration::from_millis(200);

/// The listener's token; clients count up from [`FIRST_CLIENT`] and never get a number twice.
pub const LISTENER: Token = 1;
const FIRST_CLIENT: Token = 2;

/// The process's state.
#[derive(Debug)]
pub struct Server {
    poller: Poller,
    listener: UnixListener,
    resting: Option<Deadline>,
    clients: BTreeMap<Token, Client>,
    next_client: Token,
    next_call: u64,
    calls: Vec<ToSupervisor>,
    answered: u64,
}

impl Server {
    /// Serves `listener`, a listening packet socket that does not block.
    pub fn new(poller: Poller, listener: OwnedFd) -> io::Result<Self> {
        poller.add(&listener, LISTENER, Interest::Read)?;
        Ok(Self {
            poller,
            listener: listener.into(),
            resting: None,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            next_call: 1,
            calls: Vec::new(),
            answered: 0,
        })
    }

    /// The poller, to wait and to watch the supervisor's channel.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Connections at this moment.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Takes the requests that are the supervisor's to answer.
    pub fn calls(&mut self) -> Vec<ToSupervisor> {
        std::mem::take(&mut self.calls)
    }

    /// Handles one event of the poller that is not the supervisor's.
    pub fn news(&mut self, event: &poller::Event) {
        match event.token {
            LISTENER => self.accept(),
            token if event.readable => self.read(token),
            token if event.hung_up => self.part(token),
            _ => {}
        }
    }

    /// Takes a connection in, or turns it away.
    pub fn admit(&mut self, channel: Channel) {
        let client = Client::new(channel);
        if self.clients.len() >= MOST_CLIENTS {
            let reason = format!("{MOST_CLIENTS} clients are connected already");
            let _ = client.send(&Response::Refused(reason), &[]);
            return;
        }
        let token = self.next_client;
        self.next_client += 1;
        if self.poller.add(&client, token, client.interest()).is_ok() {
            self.clients.insert(token, client);
        }
    }

    /// Passes an answer of the supervisor's on. A client that has gone meanwhile misses it.
    pub fn answer(&mut self, call: u64, response: &Response, fds: &[OwnedFd]) {
        let waits = |client: &Client| matches!(client.state, State::Waiting { call: own, .. } if own == call);
        let found = self.clients.iter().find(|(_, client)| waits(client));
        if let Some(token) = found.map(|(token, _)| *token) {
            self.reply(token, State::Idle, response, fds);
        }
    }

    /// Sends an event to all who follow. Who has no room for it is dropped: nobody is worth a queue.
    pub fn happened(&mut self, event: Event) {
        let response = Response::Event(event);
        self.clients.retain(|_, client| !client.follows || client.send(&response, &[]).is_ok());
    }

    /// How long `main` may sleep; `None`: until there is news.
    pub fn patience(&self) -> Option<Duration> {
        let ends = self.clients.values().filter_map(Client::until);
        ends.chain(self.resting).min().map(Deadline::remaining)
    }

    /// Ends what has waited for too long.
    pub fn expire(&mut self) {
        if self.resting.is_some_and(Deadline::has_passed) {
            self.resting = None;
            let _ = self.poller.modify(&self.listener, LISTENER, Interest::Read);
        }
        let late = |client: &Client| client.until().is_some_and(Deadline::has_passed);
        let late = self.clients.iter().filter(|(_, client)| late(client));
        let late: Vec<(Token, State)> =
            late.map(|(token, client)| (*token, client.state)).collect();
        for (token, state) in late {
            match state {
                State::Waiting { .. } => {
                    let reason = "the supervisor did not answer in time".to_owned();
                    self.reply(token, State::Idle, &Response::Refused(reason), &[]);
                }
                State::Greeting { .. } | State::Idle => self.part(token),
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..MOST_ACCEPTS {
            match self.listener.accept() {
                Ok((socket, _)) => self.admit(Channel::from_fd(socket.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return self.rest(),
            }
        }
    }

    /// A listener that cannot be served would wake us for ever: it is left alone for a while.
    fn rest(&mut self) {
        self.resting = Some(Deadline::after(REST));
        let _ = self.poller.modify(&self.listener, LISTENER, Interest::HangUp);
    }

    fn read(&mut self, token: Token) {
        let Some(client) = self.clients.get(&token) else { return };
        let verdict = match (client.state, client.take()) {
            // A hang-up makes a socket readable, also while nothing is read from it.
            (State::Waiting { .. }, _) | (_, Err(_)) => return self.part(token),
            (_, Ok(None)) => return,
            (State::Greeting { .. }, Ok(Some(request))) => judge::first(&request),
            (State::Idle, Ok(Some(request))) => judge::later(request),
        };
        self.carry_out(token, verdict);
    }

    fn carry_out(&mut self, token: Token, verdict: Verdict) {
        match verdict {
            Verdict::Answer(response) => self.reply(token, State::Idle, &response, &[]),
            Verdict::Follow => {
                self.reply(token, State::Idle, &Response::Done, &[]);
                if let Some(client) = self.clients.get_mut(&token) {
                    client.follows = true;
                }
            }
            Verdict::Ask(request) => {
                let call = self.next_call;
                self.next_call += 1;
                let until = Deadline::after(ANSWER);
                self.stand(token, State::Waiting { call, until });
                self.calls.push(ToSupervisor { call, request });
            }
            Verdict::Dismiss(reason) => {
                self.reply(token, State::Idle, &Response::Refused(reason), &[]);
                self.part(token);
            }
        }
    }

    fn reply(&mut self, token: Token, state: State, response: &Response, fds: &[OwnedFd]) {
        let Some(client) = self.clients.get(&token) else { return };
        match client.send(response, fds) {
            Ok(()) => {
                self.answered += 1;
                self.stand(token, state);
            }
            Err(_) => self.part(token),
        }
    }

    /// Moves a client to another state and watches it accordingly.
    fn stand(&mut self, token: Token, state: State) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let before = client.interest();
        client.state = state;
        let after = client.interest();
        if before != after && self.poller.modify(&*client, token, after).is_err() {
            self.part(token);
        }
    }

    /// Closes a connection. The poller forgets it with its last descriptor, which is ours.
    fn part(&mut self, token: Token) {
        self.clients.remove(&token);
    }
}
