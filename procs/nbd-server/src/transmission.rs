//! The transmission phase of one client: requests in, pieces out, replies back.
//!
//! ```text
//!  Head ── a request ──► Work ── room ──► pieces on the ring ──► completions ──► reply
//!   │ ▲                    └─ no room ─► waits, and nothing more is read
//!   │ └── all of it ────────────────────────────┐
//!   ├─ it brings data ───► Data: piece by piece ┤
//!   └─ nobody wants it ──► Skip ────────────────┘
//! ```
//!
//! Replies come in the order in which requests are done. Whoever cannot go on, because a share or the ring
//! is used up, is looked at again after every completion.

mod reply;

use std::collections::VecDeque;
use std::time::Instant;

use bulkhead_block_client::LinkFault;
use bulkhead_nbd::reply::{Addressee, Style, encode_done, encode_error};
use bulkhead_nbd::request::{COMPACT, EXTENDED, Request};
use bulkhead_ring::{Arena, ArenaSpan};

use crate::client::Gone;
use crate::desk::Desk;
use crate::handshake::{Agreement, Context};
use crate::judge::{Judgement, Task, Verdict, judge};
use crate::limits::{MOST_OUTPUT, MOST_RANGES, MOST_REQUESTS, MOST_UNSENT, TURN};
use crate::output::Output;
use crate::owner::{ClientPiece, Owner, Whose};
use crate::replay::carry_over;
use crate::share::{Pool, Share};
use crate::work::Work;
use bulkhead_stream::Stream;
use bulkhead_stream::input::{Filled, Input, USUAL};

/// Data that is longer than this goes from the socket to the arena without a stop in the buffer.
const DIRECT: u64 = 4096;

/// How far a client was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// There is nothing to read.
    Idle,
    /// It has to wait for a completion, or until it takes what it asked for.
    Blocked,
    /// It had its turn, and there may be more.
    Again,
    /// It is to be let go when it has taken what is left.
    Over,
}

/// Where in a client's bytes we are.
#[derive(Debug)]
enum Intake {
    /// A request comes next.
    Head,
    /// Data of a write.
    Data { slot: u16, filling: Option<Filling> },
    /// Data that nobody wants.
    Skip(u64),
}

/// A piece whose data is coming.
#[derive(Debug)]
struct Filling {
    span: ArenaSpan,
    filled: u64,
    since: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Transmission {
    owner: Owner,
    style: Style,
    contexts: Vec<Context>,
    works: Vec<Option<Work>>,
    free: Vec<u16>,
    /// Works whose next piece had no room.
    waiting: VecDeque<u16>,
    /// Pieces without data that are out.
    ranges: u32,
    intake: Intake,
    share: Share,
    leaving: bool,
    /// All that had come was read, and the socket has told of nothing since.
    drained: bool,
}

impl Transmission {
    /// Nothing has been asked yet.
    pub fn new(owner: Owner, agreement: Agreement) -> Self {
        Self {
            owner,
            style: agreement.style,
            contexts: agreement.contexts,
            works: (0..MOST_REQUESTS).map(|_| None).collect(),
            free: (0..MOST_REQUESTS as u16).rev().collect(),
            waiting: VecDeque::new(),
            ranges: 0,
            intake: Intake::Head,
            share: Share::default(),
            leaving: false,
            drained: false,
        }
    }

    /// The socket tells that there is something.
    pub fn news(&mut self) {
        self.drained = false;
    }

    /// Since when a piece of a write is coming. One that is there waits for the disk, not for the client.
    pub fn filling_since(&self) -> Option<Instant> {
        match &self.intake {
            Intake::Data { filling: Some(filling), .. } => {
                (filling.filled < filling.span.len()).then_some(filling.since)
            }
            _ => None,
        }
    }

    /// Reads and begins requests.
    pub fn serve(
        &mut self,
        stream: &mut Stream,
        input: &mut Input,
        output: &mut Output,
        desk: &mut Desk,
    ) -> Result<Served, Gone> {
        for _ in 0..TURN {
            self.cut_waiting(output, desk)?;
            if desk.has_batch() {
                break;
            }
            let served = match &self.intake {
                Intake::Head => self.head(stream, input, output, desk)?,
                Intake::Data { .. } => self.data(stream, input, desk)?,
                Intake::Skip(left) => {
                    let left = *left;
                    self.skip(stream, input, left)?
                }
            };
            if let Some(served) = served {
                return Ok(served);
            }
        }
        Ok(Served::Again)
    }

    fn head(
        &mut self,
        stream: &mut Stream,
        input: &mut Input,
        output: &mut Output,
        desk: &mut Desk,
    ) -> Result<Option<Served>, Gone> {
        if self.leaving {
            let busy = self.free.len() < MOST_REQUESTS;
            return Ok(Some(if busy { Served::Blocked } else { Served::Over }));
        }
        if !self.waiting.is_empty() || self.free.is_empty() || output.heads() > MOST_OUTPUT {
            return Ok(Some(Served::Blocked));
        }
        let request = match self.style {
            Style::Extended => input.head::<EXTENDED>().map(Request::decode_extended),
            _ => input.head::<COMPACT>().map(Request::decode_compact),
        };
        let Some(request) = request else {
            return self.more(stream, input);
        };
        let request = request.map_err(|error| Gone::Fault(error.to_string()))?;
        input.consume(if self.style == Style::Extended { EXTENDED } else { COMPACT });
        self.begin(&request, output, desk)?;
        Ok(None)
    }

    fn begin(
        &mut self,
        request: &Request,
        output: &mut Output,
        desk: &mut Desk,
    ) -> Result<(), Gone> {
        let to = Addressee { cookie: request.cookie, offset: request.offset };
        let contexts = !self.contexts.is_empty();
        let Judgement { verdict, payload } = judge(request, &desk.export, self.style, contexts);
        if payload > 0 {
            self.intake = Intake::Skip(payload);
        }
        let style = self.style;
        match verdict {
            Verdict::Do(Task::Status { range, one, .. }) => {
                let dirty = self.contexts.contains(&Context::Dirty);
                let task = Task::Status { range, one, dirty };
                return self.undertake(to, task, output, desk);
            }
            Verdict::Do(task) => return self.undertake(to, task, output, desk),
            Verdict::Done => output.write(|out| encode_done_of(out, style, request.command, to)),
            Verdict::Refuse(error, why) => {
                output.write(|out| encode_error(out, style, to, error, why));
            }
            Verdict::Leave => self.leaving = true,
            Verdict::Lost => return Err(Gone::Fault("it sends more data than may be".into())),
        }
        desk.completed += 1;
        Ok(())
    }

    fn undertake(
        &mut self,
        to: Addressee,
        task: Task,
        output: &Output,
        desk: &mut Desk,
    ) -> Result<(), Gone> {
        let Some(slot) = self.free.pop() else { return Ok(()) };
        if let Some(place) = self.works.get_mut(usize::from(slot)) {
            *place = Some(Work::new(to, task, desk.export.block()));
        }
        match task {
            Task::Write { .. } => self.intake = Intake::Data { slot, filling: None },
            _ => self.waiting.push_back(slot),
        }
        self.cut_waiting(output, desk)?;
        Ok(())
    }

    /// Whether something waits to go out until the client has taken more of its answers.
    pub fn is_behind(&self, output: &Output) -> bool {
        output.data() > MOST_UNSENT && !self.waiting.is_empty()
    }

    /// Sends pieces of the works that wait, as far as there is room.
    fn cut_waiting(&mut self, output: &Output, desk: &mut Desk) -> Result<(), LinkFault> {
        let is_behind = self.is_behind(output);
        while let Some(slot) = self.waiting.front().copied() {
            let Some(Some(work)) = self.works.get_mut(usize::from(slot)) else {
                self.waiting.pop_front();
                continue;
            };
            while !work.is_whole() {
                let need = work.next();
                let is_range = need.span == 0;
                let is_full = desk.has_batch() || !desk.link.has_tag();
                if is_behind || is_full || (is_range && self.ranges >= MOST_RANGES) {
                    return Ok(());
                }
                let span = match need.span {
                    0 => None,
                    bytes => match self.share.take(&mut desk.link, &mut desk.pool, bytes) {
                        Some(span) => Some(span),
                        None => return Ok(()),
                    },
                };
                let has_data = need.span == need.len;
                let len = span.as_ref().filter(|_| has_data).map_or(need.len, ArenaSpan::len);
                let piece = ClientPiece {
                    whose: Whose { owner: self.owner, request: slot },
                    operation: need.operation,
                    flags: need.flags,
                    offset: need.offset,
                    len: len as u32,
                };
                desk.submit(piece, span)?;
                work.sent(len);
                self.ranges += u32::from(is_range);
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Takes data of a write, at most the rest of a piece.
    fn data(
        &mut self,
        stream: &mut Stream,
        input: &mut Input,
        desk: &mut Desk,
    ) -> Result<Option<Served>, Gone> {
        let Intake::Data { slot, filling } = &mut self.intake else { return Ok(None) };
        let slot = *slot;
        let Some(Some(work)) = self.works.get_mut(usize::from(slot)) else {
            self.intake = Intake::Head;
            return Ok(None);
        };
        let need = work.next();
        let filling = match filling {
            Some(filling) => filling,
            None => {
                let span = match desk.link.has_tag() {
                    true => self.share.take(&mut desk.link, &mut desk.pool, need.span),
                    false => None,
                };
                let Some(span) = span else { return Ok(Some(Served::Blocked)) };
                filling.insert(Filling { span, filled: 0, since: desk.now })
            }
        };
        let len = filling.span.len();
        let at = filling.span.offset() + filling.filled;
        if filling.filled < len {
            let rest = desk.link.arena().check(at, len - filling.filled).map_err(outside)?;
            let here = input.bytes().len().min(rest.len());
            if here > 0 {
                let part = rest.subslice(0, here).map_err(outside)?;
                part.copy_out(input.bytes().get(..here).unwrap_or_default()).map_err(outside)?;
                input.consume(here);
                filling.filled += here as u64;
            } else if self.drained {
                return Ok(Some(Served::Idle));
            } else if rest.len() as u64 > DIRECT {
                match stream.receive_into(rest) {
                    Ok(0) => return Err(Gone::Closed),
                    Ok(count) => {
                        filling.filled += count as u64;
                        self.drained = stream.short_is_all() && count < rest.len();
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        return Ok(Some(Served::Idle));
                    }
                    Err(error) => return Err(error.into()),
                }
            } else {
                return self.more(stream, input);
            }
            if filling.filled < len {
                return Ok(None);
            }
        }
        // Somebody else may have taken the last tag meanwhile.
        if !desk.link.has_tag() {
            return Ok(Some(Served::Blocked));
        }
        let piece = ClientPiece {
            whose: Whose { owner: self.owner, request: slot },
            operation: need.operation,
            flags: need.flags,
            offset: need.offset,
            len: len as u32,
        };
        work.sent(len);
        let whole = work.is_whole();
        let Intake::Data { filling, .. } = &mut self.intake else { return Ok(None) };
        let span = filling.take().map(|filling| filling.span);
        if whole {
            self.intake = Intake::Head;
        }
        desk.submit(piece, span)?;
        Ok(None)
    }

    fn skip(
        &mut self,
        stream: &mut Stream,
        input: &mut Input,
        left: u64,
    ) -> Result<Option<Served>, Gone> {
        if input.bytes().is_empty() {
            return self.more(stream, input);
        }
        let here = left.min(input.bytes().len() as u64);
        input.consume(here as usize);
        self.intake = if here == left { Intake::Head } else { Intake::Skip(left - here) };
        Ok(None)
    }

    /// Reads more; `None`: there is more now.
    fn more(&mut self, stream: &mut Stream, input: &mut Input) -> Result<Option<Served>, Gone> {
        if self.drained {
            return Ok(Some(Served::Idle));
        }
        match input.fill(stream, USUAL)? {
            Filled::More => {
                self.drained = stream.short_is_all() && input.bytes().len() < USUAL;
                Ok(None)
            }
            Filled::Nothing => Ok(Some(Served::Idle)),
            Filled::Closed => Err(Gone::Closed),
        }
    }

    /// Block-layer was replaced: the data of a write that is still coming moves to the new arena.
    pub fn moved(&self, old: &Arena, new: &Arena) {
        if let Intake::Data { filling: Some(filling), .. } = &self.intake {
            carry_over(old, new, &filling.span, filling.filled);
        }
    }

    /// Some of what this client held was sent to it.
    pub fn released(&mut self, pool: &mut Pool, bytes: u64) {
        if bytes > 0 {
            self.share.give_back(pool, bytes);
        }
    }

    /// The client is gone: gives back what is not on the ring.
    pub fn abandon(&mut self, desk: &mut Desk) {
        if let Intake::Data { filling, .. } = &mut self.intake {
            desk.link.release(filling.take().map(|filling| filling.span));
        }
        for work in self.works.iter_mut().filter_map(Option::as_mut) {
            let arrived = std::mem::take(&mut work.ordered.arrived);
            arrived.into_values().for_each(|(_, span)| desk.link.release(span));
        }
        self.share.give_all_back(&mut desk.pool);
    }
}

/// What answers a request with which nothing had to be done: an empty read has chunks, too.
fn encode_done_of(out: &mut Vec<u8>, style: Style, command: u16, to: Addressee) {
    let read = bulkhead_nbd::request::Command::Read.code();
    match style {
        Style::Structured if command == read => bulkhead_nbd::reply::encode_last(out, style, to),
        _ => encode_done(out, style, to),
    }
}

/// Spans are of this arena.
fn outside(error: bulkhead_ring::OutOfArena) -> Gone {
    Gone::Fault(error.to_string())
}

#[cfg(test)]
mod tests;
