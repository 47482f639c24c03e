//! One client, from its connection to its end.
//!
//! ```text
//!  Handshake ──► Transmission ──► Leaving ──► gone
//!      │ ▲                           ▲
//!      │ └─ Securing (STARTTLS)      │
//!      └────── ABORT ────────────────┘
//! ```
//!
//! Law: nothing here waits. What cannot go on is looked at again when its socket, the ring or the clock has
//! news, and a client that takes too long is [due](Client::is_late) to be dropped.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use bulkhead_block_client::LinkFault;
use bulkhead_sys::poller::Interest;
use rustls::ServerConfig;

use crate::desk::Desk;
use crate::handshake::{Handshake, Step};
use crate::limits::{HANDSHAKE, MOST_OUTPUT, PIECE_TIME, TURN};
use crate::output::Output;
use crate::owner::{ClientDone, Owner};
use crate::transmission::{Served, Transmission};
use bulkhead_stream::Stream;
use bulkhead_stream::{Filled, Input};

/// Why a client is no more.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    /// It closed its connection.
    #[error("it has closed its connection")]
    Closed,
    /// Its connection broke.
    #[error("its connection broke: {0}")]
    Socket(#[from] io::Error),
    /// It did not keep to the protocol.
    #[error("{0}")]
    Fault(String),
    /// Not its fault: block-layer broke the ring.
    #[error(transparent)]
    Link(#[from] LinkFault),
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    /// What was said in the clear has to be sent before TLS begins.
    Securing(Handshake),
    Transmission(Box<Transmission>),
    Leaving,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    owner: Owner,
    stream: Stream,
    input: Input,
    output: Output,
    phase: Phase,
    tls: Option<Arc<ServerConfig>>,
    since: Instant,
    /// There is room for what it sends.
    reads: bool,
    /// TLS has something that the socket did not take.
    withheld: bool,
    /// It is gone, though nobody has read that.
    hung_up: bool,
    /// What its socket is watched for.
    pub watched: Option<Interest>,
}

impl Client {
    /// A client that has just connected.
    pub fn new(
        owner: Owner,
        socket: OwnedFd,
        tls: Option<Arc<ServerConfig>>,
        now: Instant,
    ) -> Self {
        let mut output = Output::default();
        output.write(|out| out.extend(Handshake::greeting()));
        Self {
            owner,
            stream: Stream::plain(socket),
            input: Input::default(),
            output,
            phase: Phase::Handshake(Handshake::new(tls.is_some())),
            tls,
            since: now,
            reads: true,
            withheld: false,
            hung_up: false,
            watched: None,
        }
    }

    /// Which one it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Its socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Since when it negotiates, if it does.
    pub fn negotiates_since(&self) -> Option<Instant> {
        let negotiates = matches!(self.phase, Phase::Handshake(_) | Phase::Securing(_));
        negotiates.then_some(self.since)
    }

    /// Whether it waits for a completion of somebody's.
    pub fn is_blocked(&self) -> bool {
        !self.reads
    }

    /// What its socket should be watched for.
    pub fn interest(&self) -> Interest {
        match (self.reads, self.withheld || !self.output.is_empty()) {
            (true, false) => Interest::Read,
            (true, true) => Interest::ReadWrite,
            (false, true) => Interest::Write,
            (false, false) => Interest::HangUp,
        }
    }

    /// Whether it has taken longer than anybody may.
    pub fn is_late(&self, now: Instant) -> bool {
        let late = |since: Option<Instant>, limit| {
            since.is_some_and(|since| now.saturating_duration_since(since) > limit)
        };
        let filling = match &self.phase {
            Phase::Transmission(transmission) => transmission.filling_since(),
            _ => None,
        };
        late(self.negotiates_since(), HANDSHAKE)
            || late(self.output.since(), PIECE_TIME)
            || late(filling, PIECE_TIME)
    }

    /// Reads, answers and sends as far as that is possible now. `true`: it should be served again even if
    /// nothing happens.
    pub fn serve(&mut self, desk: &mut Desk) -> Result<bool, Gone> {
        if self.hung_up {
            return Err(Gone::Closed);
        }
        let served = self.understand(desk)?;
        self.reads = matches!(served, Served::Idle | Served::Again);
        let waits_to_send = self.waits_to_send();
        self.send(desk)?;
        match served {
            Served::Again => Ok(true),
            // What it waited for was sent just now: nothing else would wake it.
            Served::Blocked | Served::Idle if waits_to_send && !self.waits_to_send() => Ok(true),
            Served::Over if self.output.is_empty() && !self.withheld => {
                self.stream.farewell();
                Err(Gone::Closed)
            }
            _ => Ok(false),
        }
    }

    /// Whether it goes on once it has taken some of its answers.
    fn waits_to_send(&self) -> bool {
        match &self.phase {
            Phase::Securing(_) => !self.output.is_empty(),
            Phase::Transmission(transmission) if transmission.is_behind(&self.output) => true,
            _ => self.output.heads() > MOST_OUTPUT,
        }
    }

    fn understand(&mut self, desk: &mut Desk) -> Result<Served, Gone> {
        for _ in 0..TURN {
            let served = match &mut self.phase {
                Phase::Transmission(transmission) => {
                    let served = transmission.serve(
                        &mut self.stream,
                        &mut self.input,
                        &mut self.output,
                        desk,
                    )?;
                    if served == Served::Over {
                        self.phase = Phase::Leaving;
                    }
                    return Ok(served);
                }
                Phase::Leaving => return Ok(Served::Over),
                Phase::Handshake(_) => self.negotiate(desk)?,
                Phase::Securing(_) => self.secure(desk)?,
            };
            if let Some(served) = served {
                return Ok(served);
            }
        }
        Ok(Served::Again)
    }

    fn negotiate(&mut self, desk: &mut Desk) -> Result<Option<Served>, Gone> {
        let Phase::Handshake(handshake) = &mut self.phase else { return Ok(None) };
        let mut step = Ok(Step::Wait);
        let input = &mut self.input;
        self.output.write(|out| step = handshake.step(input, out, &desk.export));
        match step.map_err(|fault| Gone::Fault(fault.to_string()))? {
            Step::Wait => match self.input.fill(&mut self.stream, Handshake::room())? {
                Filled::More => Ok(None),
                Filled::Nothing => Ok(Some(Served::Idle)),
                Filled::Closed => Err(Gone::Closed),
            },
            Step::Secure => {
                let begun = std::mem::replace(&mut self.phase, Phase::Leaving);
                if let Phase::Handshake(handshake) = begun {
                    self.phase = Phase::Securing(handshake);
                }
                Ok(None)
            }
            Step::Agreed(agreement) => {
                self.input.shrink();
                let transmission = Transmission::new(self.owner, agreement);
                self.phase = Phase::Transmission(Box::new(transmission));
                Ok(None)
            }
            Step::Over => {
                self.phase = Phase::Leaving;
                Ok(None)
            }
        }
    }

    fn secure(&mut self, desk: &mut Desk) -> Result<Option<Served>, Gone> {
        self.send(desk)?;
        if !self.output.is_empty() {
            return Ok(Some(Served::Blocked));
        }
        let begun = std::mem::replace(&mut self.phase, Phase::Leaving);
        if let (Phase::Securing(mut handshake), Some(config)) = (begun, &self.tls) {
            self.stream.secure(Arc::clone(config))?;
            handshake.secured();
            self.phase = Phase::Handshake(handshake);
        }
        Ok(None)
    }

    /// Sends what there is room for.
    pub fn send(&mut self, desk: &mut Desk) -> Result<(), Gone> {
        let released = self.output.send(&mut self.stream, &mut desk.link, desk.now)?;
        desk.freed |= released > 0;
        self.withheld = !self.stream.flush()?;
        if let Phase::Transmission(transmission) = &mut self.phase {
            transmission.released(&mut desk.pool, released);
        }
        Ok(())
    }

    /// A piece of its is over.
    pub fn finish(&mut self, done: ClientDone, desk: &mut Desk) -> Result<(), Gone> {
        match &mut self.phase {
            Phase::Transmission(transmission) => transmission.finish(done, &mut self.output, desk),
            _ => {
                desk.link.release(done.span);
                Ok(())
            }
        }
    }

    /// Its socket has something.
    pub fn news(&mut self) {
        if let Phase::Transmission(transmission) = &mut self.phase {
            transmission.news();
        }
    }

    /// It has hung up while nobody read from it: nobody waits for its answers.
    pub fn leave(&mut self) {
        self.hung_up = true;
    }

    /// Block-layer was replaced.
    pub fn moved(&self, old: &bulkhead_ring::Arena, new: &bulkhead_ring::Arena) {
        if let Phase::Transmission(transmission) = &self.phase {
            transmission.moved(old, new);
        }
    }

    /// It is gone: gives back what it held.
    pub fn abandon(mut self, desk: &mut Desk) {
        self.output.abandon(&mut desk.link);
        if let Phase::Transmission(transmission) = &mut self.phase {
            transmission.abandon(desk);
        }
    }
}
