//! The handshake as a client has it: what to send next, whatever the server answers.
//!
//! ```text
//! greeting ─► [STARTTLS ─► Secure] ─► EXTENDED_HEADERS ─► (refused: STRUCTURED_REPLY) ─►
//!     SET_META_CONTEXT base:allocation ─► GO ─► Agreed
//! ```
//!
//! The caller brings bytes that have come, sends those it gets, and does TLS when it is told. What a server
//! cannot do is done without, but for TLS and the export itself. Law: a reply longer than [`LONGEST`] and
//! more than [`MOST_REPLIES`] of them end it; how long it may take is the caller's to say.

use crate::cursor::Malformed;
use crate::handshake::{
    FIXED_NEWSTYLE, GREETING, NO_ZEROES, REPLY_HEADER, Refusal, ReplyHeader, ReplyKind,
    decode_greeting, encode_option,
};
use crate::option::{ContextQuery, Info, InfoCode, InfoQuery, OptionCode, decode_context, flag};
use crate::reply::Style;
use crate::{LONGEST_NAME, context};

/// Longest data of a reply: names are no longer.
pub const LONGEST: usize = 2 * LONGEST_NAME;

/// Bytes that must have room before a reply is understood.
pub const ROOM: usize = REPLY_HEADER + LONGEST;

/// Most replies of one handshake.
pub const MOST_REPLIES: u32 = 64;

/// Longest payload that every server takes ("Size constraints").
const USUAL_MAXIMUM: u32 = 32 << 20;

/// Largest smallest block that is believed.
const MOST_MINIMUM: u32 = 64 << 10;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Name of the export.
    pub export: String,
    /// Nothing without TLS.
    pub tls: bool,
}

/// What client and server have agreed on, and what the export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Which replies come; with [`Style::Extended`] requests have extended headers.
    pub style: Style,
    /// Bytes.
    pub size: u64,
    /// [`flag`]s.
    pub flags: u16,
    /// Smallest unit of a request.
    pub minimum: u32,
    /// Longest payload.
    pub maximum: u32,
    /// Number of the context `base:allocation`, if block status tells it.
    pub allocation: Option<u32>,
}

impl Agreed {
    /// Whether the server serves what `flag` stands for.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// More has to come.
    Wait,
    /// From here on it is TLS. Nothing that came before may be taken for anything else.
    Secure,
    /// The transmission phase begins.
    Done(Agreed),
}

/// Why there is no session. The server, or what was asked of it, is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The greeting is none.
    #[error("it is no NBD server of the fixed newstyle")]
    Greeting,
    /// It breaks the protocol.
    #[error("it breaks the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// It answers something else, or too much.
    #[error("it breaks the protocol: {0}")]
    Nonsense(&'static str),
    /// TLS was wanted.
    #[error("it has no TLS ({0})")]
    NoTls(Refusal),
    /// TLS was not wanted.
    #[error("it wants TLS")]
    WantsTls,
    /// No such export.
    #[error("it has no export '{0}'")]
    UnknownExport(String),
    /// Anything else.
    #[error("it refuses the export '{0}': {1}")]
    Refused(String, Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Option(OptionCode),
    Over,
}

/// A handshake under way.
#[derive(Debug)]
pub struct Negotiation {
    wish: Wish,
    state: State,
    style: Style,
    allocation: Option<u32>,
    export: Option<(u64, u16)>,
    sizes: Option<(u32, u32)>,
    replies: u32,
}

impl Negotiation {
    /// One that has not begun: the server greets first.
    pub fn new(wish: Wish) -> Self {
        Self {
            wish,
            state: State::Greeting,
            style: Style::Simple,
            allocation: None,
            export: None,
            sizes: None,
            replies: 0,
        }
    }

    /// Understands one message of `input`, and says how many bytes it had (0: more has to come) and what
    /// is to be done. What is to be sent is added to `out`.
    pub fn step(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Step), NegotiationError> {
        let option = match self.state {
            State::Greeting => return self.greeted(input, out),
            State::Option(option) => option,
            State::Over => return Ok((0, Step::Wait)),
        };
        let Some(head) = input.first_chunk::<REPLY_HEADER>() else {
            return Ok((0, Step::Wait));
        };
        let header = ReplyHeader::decode(head)?;
        let len = header.len as usize;
        self.replies += 1;
        if header.option != option.code() {
            return Err(NegotiationError::Nonsense("an answer to what was not asked"));
        }
        if len > LONGEST || self.replies > MOST_REPLIES {
            return Err(NegotiationError::Nonsense("an answer without end"));
        }
        let Some(data) = input.get(REPLY_HEADER..REPLY_HEADER + len) else {
            self.replies -= 1;
            return Ok((0, Step::Wait));
        };
        let step = self.answered(option, header.kind, data, out)?;
        Ok((REPLY_HEADER + len, step))
    }

    fn greeted(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Step), NegotiationError> {
        let Some(greeting) = input.first_chunk::<GREETING>() else {
            return Ok((0, Step::Wait));
        };
        let flags = decode_greeting(greeting).map_err(|_| NegotiationError::Greeting)?;
        let flags = FIXED_NEWSTYLE | u32::from(flags) & NO_ZEROES;
        out.extend(flags.to_be_bytes());
        let first = if self.wish.tls { OptionCode::StartTls } else { OptionCode::ExtendedHeaders };
        self.ask(first, out);
        Ok((GREETING, Step::Wait))
    }

    fn ask(&mut self, option: OptionCode, out: &mut Vec<u8>) {
        let name = self.wish.export.as_str();
        let data = match option {
            OptionCode::SetMetaContext => {
                ContextQuery { export: name, queries: vec![context::ALLOCATION] }.encode()
            }
            OptionCode::Go => InfoQuery { name, wanted: vec![InfoCode::BlockSize] }.encode(),
            _ => Vec::new(),
        };
        encode_option(out, option, &data);
        self.state = State::Option(option);
    }

    fn answered(
        &mut self,
        option: OptionCode,
        kind: ReplyKind,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, NegotiationError> {
        match (option, kind) {
            (_, ReplyKind::Error(Refusal::TlsRequired)) if !self.wish.tls => {
                return Err(NegotiationError::WantsTls);
            }
            (OptionCode::StartTls, ReplyKind::Ack) => {
                self.ask(OptionCode::ExtendedHeaders, out);
                return Ok(Step::Secure);
            }
            (OptionCode::StartTls, ReplyKind::Error(why)) => {
                return Err(NegotiationError::NoTls(why));
            }
            (OptionCode::ExtendedHeaders, ReplyKind::Ack) => {
                self.style = Style::Extended;
                self.ask(OptionCode::SetMetaContext, out);
            }
            (OptionCode::ExtendedHeaders, ReplyKind::Error(_)) => {
                self.ask(OptionCode::StructuredReply, out);
            }
            (OptionCode::StructuredReply, ReplyKind::Ack) => {
                self.style = Style::Structured;
                self.ask(OptionCode::SetMetaContext, out);
            }
            (OptionCode::SetMetaContext, ReplyKind::MetaContext) => {
                let (id, name) = decode_context(data)?;
                if name != context::ALLOCATION {
                    return Err(NegotiationError::Nonsense("a context that was not asked for"));
                }
                self.allocation = Some(id);
            }
            (OptionCode::StructuredReply, ReplyKind::Error(_))
            | (OptionCode::SetMetaContext, ReplyKind::Ack) => self.ask(OptionCode::Go, out),
            (OptionCode::SetMetaContext, ReplyKind::Error(_)) => {
                self.allocation = None;
                self.ask(OptionCode::Go, out);
            }
            (OptionCode::Go, ReplyKind::Info) => self.informed(data)?,
            (OptionCode::Go, ReplyKind::Ack) => return self.agreed().map(Step::Done),
            (OptionCode::Go, ReplyKind::Error(Refusal::UnknownExport)) => {
                return Err(NegotiationError::UnknownExport(self.wish.export.clone()));
            }
            (OptionCode::Go, ReplyKind::Error(why)) => {
                return Err(NegotiationError::Refused(self.wish.export.clone(), why));
            }
            _ => return Err(NegotiationError::Nonsense("an answer that makes no sense")),
        }
        Ok(Step::Wait)
    }

    fn informed(&mut self, data: &[u8]) -> Result<(), NegotiationError> {
        match Info::decode(data)? {
            Some(Info::Export { size, flags }) => self.export = Some((size, flags)),
            Some(Info::BlockSize { minimum, maximum, .. }) => {
                self.sizes = Some((minimum, maximum));
            }
            _ => {}
        }
        Ok(())
    }

    fn agreed(&mut self) -> Result<Agreed, NegotiationError> {
        self.state = State::Over;
        let Some((size, flags)) = self.export else {
            return Err(NegotiationError::Nonsense("an export without a size"));
        };
        if i64::try_from(size).is_err() || flags & flag::HAS_FLAGS == 0 {
            return Err(NegotiationError::Nonsense("a size or flags that cannot be"));
        }
        let (minimum, maximum) = self.sizes.unwrap_or((1, USUAL_MAXIMUM));
        let sound = minimum.is_power_of_two() && minimum <= MOST_MINIMUM && maximum >= minimum;
        // "Size constraints": a maximum is a multiple of the minimum, or all ones.
        if !sound || maximum != u32::MAX && !maximum.is_multiple_of(minimum) {
            return Err(NegotiationError::Nonsense("block sizes that cannot be"));
        }
        let (style, allocation) = (self.style, self.allocation);
        let maximum = maximum.min(USUAL_MAXIMUM);
        Ok(Agreed { style, size, flags, minimum, maximum, allocation })
    }
}

#[cfg(test)]
mod tests;
