//! The device's stream, the viewers, and what is kept between them.
//!
//! Called by `main` with the news of the poller and the supervisor's commands. Nothing in here
//! blocks, and neither the guest's nor a viewer's fault is an error of the process.
//!
//! A device that dies leaves its stream at an end of file; what was kept stays, what viewers type
//! waits, and the next stream goes on where this one ended.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::poller::{Event, Interest, Poller, Token};
use bulkhead_sys::seqpacket;

use crate::history::{History, SLACK};
use crate::viewer::Viewer;

/// Viewers at a time; the longest-standing one makes room for one more.
pub const MOST_VIEWERS: usize = 16;

/// Most bytes that are kept for the next viewer, whatever the plan says.
pub const MOST_HISTORY: usize = 4 << 20;

/// Bytes of one read from the device, and of input under way.
const PIECE: usize = 16 * 1024;

/// Reads of what a stream that is replaced still holds: as much as a socket queues, and less than a
/// viewer may fall behind.
const LEFT_OVER: usize = SLACK / PIECE - 1;

/// Reads from the device in one turn, so that a guest that writes without end delays no heartbeat.
const TURNS: usize = 4;

/// The stream's token; viewers count up from [`FIRST_VIEWER`] and never get a number twice.
pub const STREAM: Token = 1;
const FIRST_VIEWER: Token = 2;

/// The process's state.
#[derive(Debug)]
pub struct Keeper {
    poller: Poller,
    stream: Option<OwnedFd>,
    history: History,
    /// Typed, and not yet taken by the device.
    input: Vec<u8>,
    viewers: BTreeMap<Token, Viewer>,
    next_viewer: Token,
    buffer: Box<[u8]>,
}

impl Keeper {
    /// Keeps the last `history` bytes of `stream`.
    pub fn new(poller: Poller, stream: OwnedFd, history: usize) -> io::Result<Self> {
        let mut keeper = Self {
            poller,
            stream: None,
            history: History::new(history.min(MOST_HISTORY)),
            input: Vec::new(),
            viewers: BTreeMap::new(),
            next_viewer: FIRST_VIEWER,
            buffer: vec![0; PIECE].into_boxed_slice(),
        };
        keeper.replace_stream(stream)?;
        Ok(keeper)
    }

    /// The poller, to wait and to watch the supervisor's channel.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Bytes of output seen so far.
    pub fn seen(&self) -> u64 {
        self.history.end()
    }

    /// Viewers at this moment.
    pub fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// Goes on with another stream. What the old one still holds is read first.
    pub fn replace_stream(&mut self, stream: OwnedFd) -> io::Result<()> {
        self.give_up_stream();
        self.poller.add(&stream, STREAM, Interest::Read)?;
        self.stream = Some(stream);
        self.pass_input();
        Ok(())
    }

    /// Takes a viewer in.
    pub fn admit(&mut self, socket: OwnedFd) {
        if self.viewers.len() >= MOST_VIEWERS {
            let oldest = self.viewers.first_key_value().map(|(token, _)| *token);
            oldest.into_iter().for_each(|token| self.part(token));
        }
        let viewer = Viewer::new(socket, &self.history);
        let token = self.next_viewer;
        self.next_viewer += 1;
        if self.poller.add(&viewer, token, viewer.watched).is_ok() {
            self.viewers.insert(token, viewer);
        }
    }

    /// Handles one event of the poller that is not the supervisor's.
    pub fn news(&mut self, event: &Event) {
        match event.token {
            STREAM => {
                let _ = (0..TURNS).all(|_| self.listen());
                self.pass_input();
            }
            token => self.hear(token, event),
        }
    }

    /// Shows viewers what is new, and watches everybody for what matters now. To be called before
    /// each wait.
    pub fn show(&mut self) {
        let Self { viewers, history, input, poller, stream, .. } = self;
        let may_type = input.is_empty();
        viewers.retain(|token, viewer| {
            let shown = viewer.show(history).is_ok();
            let interest = viewer.interest(history, may_type);
            let changed = interest != viewer.watched;
            viewer.watched = interest;
            let stays = shown && (!changed || poller.modify(&*viewer, *token, interest).is_ok());
            if !stays {
                let _ = poller.remove(&*viewer);
            }
            stays
        });
        if let Some(stream) = stream {
            let interest = if may_type { Interest::Read } else { Interest::ReadWrite };
            let _ = poller.modify(&*stream, STREAM, interest);
        }
    }

    /// Reads once from the device; `false` if there is nothing more at the moment.
    fn listen(&mut self) -> bool {
        let Some(stream) = &self.stream else { return false };
        match seqpacket::receive(stream.as_fd(), &mut self.buffer) {
            Ok(datagram) if datagram.len > 0 => {
                let output = self.buffer.get(..datagram.len).unwrap_or_default();
                self.history.append(output);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The device's process is gone; the supervisor brings the stream of its successor.
            Ok(_) | Err(_) => {
                self.forget_stream();
                false
            }
        }
    }

    /// Reads what the stream still holds, and leaves it.
    fn give_up_stream(&mut self) {
        let _ = (0..LEFT_OVER).all(|_| self.listen());
        self.forget_stream();
    }

    /// The poller has to be told: the supervisor may hold a duplicate, and then the closing of ours
    /// ends nothing.
    fn forget_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = self.poller.remove(&stream);
        }
    }

    fn hear(&mut self, token: Token, event: &Event) {
        let Some(viewer) = self.viewers.get(&token) else { return };
        let may_type = self.input.is_empty();
        if may_type && event.readable {
            match viewer.typed(&mut self.buffer) {
                Ok(len) => self.input.extend_from_slice(self.buffer.get(..len).unwrap_or_default()),
                Err(_) => self.part(token),
            }
            self.pass_input();
        } else if event.hung_up && !event.readable {
            // Watched for nothing but this while the device has no room: what it typed is lost.
            self.part(token);
        }
    }

    fn part(&mut self, token: Token) {
        if let Some(viewer) = self.viewers.remove(&token) {
            let _ = self.poller.remove(&viewer);
        }
    }

    /// Sends what was typed, as far as the device has room.
    fn pass_input(&mut self) {
        while let (Some(stream), false) = (&self.stream, self.input.is_empty()) {
            match seqpacket::send_some(stream.as_fd(), &self.input, &[]) {
                Ok(sent) => drop(self.input.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.give_up_stream(),
            }
        }
    }
}
