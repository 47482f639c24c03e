//! A line: one connection with a server, from its handshake on.
//!
//! ```text
//! Negotiating ──agreed──▶ Open ──an error, or nonsense──▶ lost
//!      └────── too late, refused, an error ───────────────▲
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_nbd::negotiation::{self, Agreed, Negotiation, Step};
use bulkhead_nbd::option::flag as export_flag;
use bulkhead_nbd::reply::{Extent, Style};
use bulkhead_nbd::request::{Command, Request, flag};
use bulkhead_stream::stream::Socket;
use bulkhead_stream::tls::Client;
use bulkhead_stream::{Filled, Input, Stream};

use super::output::Output;
use super::reading::Reading;
use super::requests::Requests;

/// Requests of one line that are not answered. More wait where another line may take them.
const MOST_OUTSTANDING: usize = 64;

/// Where it is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// What is being agreed on, and until when.
    Negotiating(Negotiation, Duration),
    /// What was.
    Open(Agreed),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    id: u64,
    pub(super) stream: Stream,
    pub(super) input: Input,
    output: Output,
    phase: Phase,
    pub(super) reading: Reading,
    pub(super) outstanding: usize,
    /// What it is asked is not to be mixed with anything else.
    apart: bool,
    /// Something has come or gone since this was last asked.
    pub(super) moved: bool,
    /// There may be more to read than the socket shows.
    pub(super) more: bool,
}

impl Line {
    pub(super) fn new(id: u64, socket: OwnedFd, negotiation: Negotiation, until: Duration) -> Self {
        Self {
            id,
            stream: Stream::plain(socket),
            input: Input::default(),
            output: Output::default(),
            phase: Phase::Negotiating(negotiation, until),
            reading: Reading::Header,
            outstanding: 0,
            apart: false,
            moved: false,
            more: false,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether something has come or gone since this was last asked.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub(super) fn agreed(&self) -> Option<Agreed> {
        match self.phase {
            Phase::Open(agreed) => Some(agreed),
            Phase::Negotiating(..) => None,
        }
    }

    /// Until when it must have agreed.
    pub(super) fn until(&self) -> Option<Duration> {
        match self.phase {
            Phase::Negotiating(_, until) => Some(until),
            Phase::Open(_) => None,
        }
    }

    pub(super) fn watched(&self) -> Option<(Socket, bool)> {
        let room = self.has_output() || self.stream.holds_back();
        self.stream.shared().map(|socket| (socket, room))
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether it takes another request; a suspect only by itself.
    pub(super) fn has_room(&self, suspect: bool) -> bool {
        let most = if suspect || self.apart { 1 } else { MOST_OUTSTANDING };
        self.is_open() && self.outstanding < most
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Puts a request behind what is to be sent.
    pub(super) fn ask(&mut self, cookie: u64, suspect: bool, requests: &mut Requests) {
        let (Some(agreed), Some(question)) = (self.agreed(), requests.send(cookie, self.id)) else {
            return;
        };
        let (asked, memory) = (question.asked, question.memory.clone());
        let extended = agreed.style == Style::Extended;
        let writes = asked.command == Command::Write;
        if let Some(ended) = without_asking(agreed, asked.command, asked.len) {
            return requests.end(cookie, ended);
        }
        let payload = if extended && writes { flag::PAYLOAD_LEN } else { 0 };
        let request = Request {
            flags: question.flags | payload,
            command: asked.command.code(),
            cookie,
            offset: asked.offset,
            len: asked.len,
        };
        request.encode(self.output.bytes(), extended);
        if let Some(memory) = memory.filter(|_| writes) {
            self.output.memory(memory);
        }
        self.outstanding += 1;
        self.apart = suspect;
    }

    pub(super) fn send(&mut self) -> io::Result<()> {
        self.moved |= self.output.send(&mut self.stream)?;
        Ok(())
    }

    /// Sends and receives what can be. An error says why the line is lost.
    pub(super) fn pump(
        &mut self,
        requests: &mut Requests,
        tls: Option<&Client>,
    ) -> Result<(), String> {
        self.send().map_err(|error| lost(&error))?;
        if let Phase::Negotiating(..) = self.phase {
            self.negotiate(tls)?;
            self.send().map_err(|error| lost(&error))?;
        }
        match self.phase {
            Phase::Open(agreed) => self.receive(agreed, requests),
            Phase::Negotiating(..) => Ok(()),
        }
    }

    fn negotiate(&mut self, tls: Option<&Client>) -> Result<(), String> {
        loop {
            let Phase::Negotiating(negotiation, _) = &mut self.phase else {
                return Ok(());
            };
            let step = negotiation.step(self.input.bytes(), self.output.bytes());
            let (used, step) = step.map_err(|error| error.to_string())?;
            self.input.consume(used);
            match (step, tls) {
                (Step::Done(agreed), _) => self.phase = Phase::Open(agreed),
                (Step::Secure, Some(client)) if self.input.bytes().is_empty() => {
                    self.stream.secure_client(client).map_err(|error| lost(&error))?;
                }
                (Step::Secure, _) => {
                    return Err("it says something between 'TLS from here' and TLS".to_owned());
                }
                (Step::Wait, _) if used > 0 => {}
                (Step::Wait, _) => {
                    self.send().map_err(|error| lost(&error))?;
                    if !self.fill(negotiation::ROOM)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads once; `false`: nothing is there.
    pub(super) fn fill(&mut self, room: usize) -> Result<bool, String> {
        match self.input.fill(&mut self.stream, room) {
            Ok(Filled::More) => {
                self.moved = true;
                Ok(true)
            }
            Ok(Filled::Nothing) => Ok(false),
            Ok(Filled::Closed) => Err("it closed the connection".to_owned()),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Says that nothing more comes, if there is room for it.
    pub(super) fn farewell(&mut self) {
        let Some(agreed) = self.agreed() else {
            return;
        };
        let command = Command::Disconnect.code();
        let request = Request { flags: 0, command, cookie: 0, offset: 0, len: 0 };
        request.encode(self.output.bytes(), agreed.style == Style::Extended);
        let _ = self.send();
        self.stream.farewell();
    }
}

/// What a server need not be asked, because it has no such thing.
fn without_asking(agreed: Agreed, command: Command, len: u64) -> Option<super::requests::Ended> {
    match command {
        Command::Flush if !agreed.has(export_flag::SEND_FLUSH) => Some(Ok(Vec::new())),
        Command::Trim if !agreed.has(export_flag::SEND_TRIM) => Some(Ok(Vec::new())),
        Command::BlockStatus if agreed.allocation.is_none() => {
            Some(Ok(vec![Extent { len, status: 0 }]))
        }
        _ => None,
    }
}

/// Why a line is lost, as the host says it.
pub(super) fn lost(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.to_string(),
        None => format!("TLS: {error}"),
    }
}
