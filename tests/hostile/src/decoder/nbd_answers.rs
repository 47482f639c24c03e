//! What an NBD server says to our client: its side of a handshake, or its answer to one request. An export that
//! is believed has sizes that can be; data lies where it was asked for, and all of it came.

use bulkhead_nbd::answer::{Answer, Asked, DATA_HEAD, Payload};
use bulkhead_nbd::context::ALLOCATION;
use bulkhead_nbd::handshake::{ReplyKind, encode_reply, greeting};
use bulkhead_nbd::negotiation::{Negotiation, Step, Wish};
use bulkhead_nbd::option::{Info, OptionCode, encode_context};
use bulkhead_nbd::reply::{self, Addressee, Extent, ReplyHeader, Style, header_len};
use bulkhead_nbd::request::Command;

use super::Verdict;
use crate::draw::Draw;

const ASKED: Asked = Asked { command: Command::Read, offset: 1 << 20, len: 8192 };

const STYLES: [Style; 3] = [Style::Simple, Style::Structured, Style::Extended];

/// Number of the context in the samples.
const CONTEXT: u32 = 7;

/// A choice from the first byte, then what the server says.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let traits = draw.byte();
    let tls = traits & 0x10 != 0;
    let style = STYLES.get(usize::from(traits & 3));
    match style {
        None => handshake(tls, draw.rest()),
        Some(style) => {
            let command = if tls { Command::BlockStatus } else { Command::Read };
            Verdict::accepted_if(answer(*style, command, draw.rest()).is_some())
        }
    }
}

fn handshake(tls: bool, bytes: &[u8]) -> Verdict {
    let mut negotiation = Negotiation::new(Wish { export: "disk".into(), tls });
    let (mut at, mut out) = (0, Vec::new());
    loop {
        let left = bytes.get(at..).unwrap_or_default();
        let Ok((used, step)) = negotiation.step(left, &mut out) else {
            return Verdict::Refused;
        };
        assert!(used <= left.len() && out.len() < 4096, "a client that never stops asking");
        at += used;
        match step {
            Step::Done(agreed) => {
                assert!(agreed.minimum.is_power_of_two() && agreed.minimum <= agreed.maximum);
                assert!(i64::try_from(agreed.size).is_ok());
                return Verdict::Accepted;
            }
            Step::Wait if used == 0 => return Verdict::Refused,
            Step::Wait | Step::Secure => {}
        }
    }
}

/// Takes an answer to its end; none: it is not believed, or does not end.
fn answer(style: Style, command: Command, bytes: &[u8]) -> Option<()> {
    let mut answer = Answer::new(Asked { command, ..ASKED });
    let (mut left, mut covered) = (bytes, 0);
    loop {
        let (head, rest) = left.split_at_checked(header_len(*left.first_chunk()?)?)?;
        left = rest;
        let header = ReplyHeader::decode(head).ok()?;
        let (payload, last, chunk) = match header {
            ReplyHeader::Simple { result, .. } => (answer.simple(style, result), true, None),
            ReplyHeader::Chunk { kind, len, done, .. } => {
                (answer.chunk(style, kind, len, done), done, Some(kind))
            }
        };
        match (payload.ok()?, chunk) {
            (Payload::None, _) => {}
            (Payload::All(len), _) => {
                assert_eq!(len, ASKED.len);
                (covered, left) = (len, left.get(len as usize..)?);
            }
            (Payload::Data(len), _) => {
                let (place, rest) = left.split_first_chunk::<DATA_HEAD>()?;
                let start = answer.place(u64::from_be_bytes(*place), len).ok()?;
                assert!(start + len <= ASKED.len, "data outside of what was asked for");
                (covered, left) = (covered + len, rest.get(len as usize..)?);
            }
            (Payload::Small(len), chunk) => {
                let (payload, rest) = left.split_at_checked(len)?;
                let zeroes = answer.small(chunk?, Some(CONTEXT), payload).ok()?;
                if let Some((start, len)) = zeroes {
                    assert!(start + len <= ASKED.len, "zeroes outside of what was asked for");
                    covered += len;
                }
                left = rest;
            }
        }
        if last {
            let ended = answer.end().ok()?;
            assert!(ended.is_err() || command != Command::Read || covered == ASKED.len);
            return Some(());
        }
    }
}

/// A handshake, and one answer in each style.
pub fn samples() -> Vec<Vec<u8>> {
    let mut hello = vec![3];
    hello.extend(greeting());
    let sizes = Info::BlockSize { minimum: 512, preferred: 4096, maximum: 1 << 20 };
    let export = Info::Export { size: 1 << 30, flags: 0x0d };
    for (option, kind, data) in [
        (OptionCode::ExtendedHeaders, ReplyKind::Ack, Vec::new()),
        (OptionCode::SetMetaContext, ReplyKind::MetaContext, encode_context(CONTEXT, ALLOCATION)),
        (OptionCode::SetMetaContext, ReplyKind::Ack, Vec::new()),
        (OptionCode::Go, ReplyKind::Info, export.encode()),
        (OptionCode::Go, ReplyKind::Info, sizes.encode()),
        (OptionCode::Go, ReplyKind::Ack, Vec::new()),
    ] {
        encode_reply(&mut hello, option.code(), kind, &data);
    }
    let mut all = vec![hello];
    let to = Addressee { cookie: 1, offset: ASKED.offset };
    for (number, style) in (0..).zip(STYLES) {
        let mut data = vec![number];
        reply::encode_data(&mut data, style, to, ASKED.offset, ASKED.len as u32, true);
        data.resize(data.len() + ASKED.len as usize, 5);
        all.push(data);
    }
    let mut status = vec![0x11];
    let extents = [Extent { len: 4096, status: 3 }];
    reply::encode_status(&mut status, Style::Structured, to, CONTEXT, &extents, true);
    all.push(status);
    all
}
