//! The handshake with one client: bytes in, bytes out.
//!
//! ```text
//!            flags           options, each answered           EXPORT_NAME, GO
//!  Greeted ────────► Options ─────────────────────► Options ─────────────────► agreed
//!                      │ STARTTLS ─► TLS; nothing that was agreed in the clear counts
//!                      └ ABORT, nonsense, too many ─► over
//! ```
//!
//! Law: with TLS wanted, nothing but STARTTLS and ABORT is served in the clear, and what a client sent in
//! the clear behind its STARTTLS ends the session: it could have been put there by anybody.

mod options;

use std::borrow::Cow;

use bulkhead_nbd::Malformed;
use bulkhead_nbd::handshake::{
    CLIENT_FLAGS, OPTION_HEADER, OptionHeader, Refusal, ReplyKind, decode_client_flags,
    encode_reply, greeting,
};
use bulkhead_nbd::reply::Style;

use crate::export::Export;
use crate::limits::{LONGEST_OPTION, LONGEST_SKIP, MOST_OPTIONS};
use bulkhead_stream::Input;

/// What a metadata context tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// `base:allocation`.
    Allocation,
    /// `qemu:allocation-depth`.
    Depth,
    /// `qemu:dirty-bitmap:` and the name of the export's bitmap.
    Dirty,
}

impl Context {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Allocation, Self::Depth, Self::Dirty];

    /// Its name, if the export has it.
    pub fn name(self, export: &Export) -> Option<Cow<'_, str>> {
        match self {
            Self::Allocation => Some(bulkhead_nbd::context::ALLOCATION.into()),
            Self::Depth => Some(bulkhead_nbd::context::DEPTH.into()),
            Self::Dirty => {
                let bitmap = export.bitmap.as_ref()?;
                Some(format!("{}{bitmap}", bulkhead_nbd::context::BITMAP).into())
            }
        }
    }

    /// Its number in every session.
    pub const fn id(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::Depth => 2,
            Self::Dirty => 3,
        }
    }
}

/// What a handshake came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// How replies look.
    pub style: Style,
    /// What block status tells.
    pub contexts: Vec<Context>,
}

/// How it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    Wait,
    /// TLS begins after what was written so far.
    Secure,
    /// It is over, and requests follow.
    Agreed(Agreement),
    /// It is over; what was written so far is the last that the client hears.
    Over,
}

/// Why a client is dropped. It is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not speak NBD.
    #[error("it does not speak the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// It never ends.
    #[error("it sent more than {MOST_OPTIONS} options")]
    Options,
    /// An option that nobody reads to its end.
    #[error("it sent an option of {0} bytes")]
    Long(u64),
    /// It cannot be told so otherwise.
    #[error("it asked by EXPORT_NAME for what it cannot have")]
    Export,
    /// Something behind STARTTLS in the clear.
    #[error("it sent data in the clear behind STARTTLS")]
    Injected,
}

/// What is to be done about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// There is none.
    None,
    /// Nothing is served before it has begun.
    Wanted,
    /// It has begun.
    Begun,
}

/// A handshake.
#[derive(Debug)]
pub struct Handshake {
    security: Security,
    /// The client's flags have come; whether it wants no zeroes.
    no_zeroes: Option<bool>,
    style: Style,
    contexts: Vec<Context>,
    options: u32,
    /// Bytes of a long option that are still to be read past.
    skip: u64,
}

impl Handshake {
    /// A handshake whose greeting is the first thing to be sent.
    pub fn new(tls: bool) -> Self {
        Self {
            security: if tls { Security::Wanted } else { Security::None },
            no_zeroes: None,
            style: Style::Simple,
            contexts: Vec::new(),
            options: 0,
            skip: 0,
        }
    }

    /// The greeting.
    pub fn greeting() -> [u8; 18] {
        greeting()
    }

    /// TLS has begun: what was agreed before could have been said by anybody.
    pub fn secured(&mut self) {
        self.security = Security::Begun;
        self.style = Style::Simple;
        self.contexts.clear();
    }

    /// How many bytes there must be room for.
    pub fn room() -> usize {
        OPTION_HEADER + LONGEST_OPTION as usize
    }

    /// Takes the next word from `input` and answers it in `output`.
    pub fn step(
        &mut self,
        input: &mut Input,
        output: &mut Vec<u8>,
        export: &Export,
    ) -> Result<Step, Fault> {
        if self.no_zeroes.is_none() {
            let Some(flags) = input.head::<CLIENT_FLAGS>() else { return Ok(Step::Wait) };
            self.no_zeroes = Some(decode_client_flags(*flags)?);
            input.consume(CLIENT_FLAGS);
        }
        loop {
            if self.skip > 0 {
                let there = self.skip.min(input.bytes().len() as u64);
                input.consume(there as usize);
                self.skip -= there;
                if self.skip > 0 {
                    return Ok(Step::Wait);
                }
            }
            let Some(head) = input.head::<OPTION_HEADER>() else { return Ok(Step::Wait) };
            let header = OptionHeader::decode(head)?;
            if header.len > LONGEST_OPTION {
                self.count()?;
                input.consume(OPTION_HEADER);
                self.begin_skip(header, output)?;
                continue;
            }
            let len = OPTION_HEADER + header.len as usize;
            let Some(bytes) = input.bytes().get(OPTION_HEADER..len) else { return Ok(Step::Wait) };
            let data = bytes.to_vec();
            self.count()?;
            input.consume(len);
            let step = self.option(header.code, &data, output, export)?;
            if step == Step::Secure && !input.bytes().is_empty() {
                return Err(Fault::Injected);
            }
            if step != Step::Wait {
                return Ok(step);
            }
        }
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.options += 1;
        match self.options > MOST_OPTIONS {
            true => Err(Fault::Options),
            false => Ok(()),
        }
    }

    fn begin_skip(&mut self, header: OptionHeader, output: &mut Vec<u8>) -> Result<(), Fault> {
        let len = u64::from(header.len);
        if len > LONGEST_SKIP {
            return Err(Fault::Long(len));
        }
        self.skip = len;
        refuse(output, header.code, Refusal::TooBig, "the option is too long");
        Ok(())
    }
}

/// Answers an option with an error and a reason for people.
fn refuse(output: &mut Vec<u8>, option: u32, refusal: Refusal, why: &str) {
    encode_reply(output, option, ReplyKind::Error(refusal), why.as_bytes());
}

#[cfg(test)]
mod tests;
