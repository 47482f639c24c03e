//! Handshakes with servers that can everything, little, and lie.

use proptest::prelude::*;

use super::*;
use crate::handshake::{OptionHeader, encode_reply, greeting};
use crate::option::encode_context;

fn client(tls: bool) -> Negotiation {
    Negotiation::new(Wish { export: "disk".into(), tls })
}

/// What a server answers to an option.
type Answers<'a> = &'a dyn Fn(OptionCode) -> Vec<(ReplyKind, Vec<u8>)>;

/// Takes a handshake to its end with a server that answers so.
fn negotiate(client: &mut Negotiation, answers: Answers<'_>) -> Result<Agreed, NegotiationError> {
    let mut out = Vec::new();
    let (used, _) = client.step(&greeting(), &mut out)?;
    assert_eq!(used, GREETING);
    let mut asked = out.split_off(4);
    loop {
        let header = OptionHeader::decode(asked.first_chunk().unwrap()).unwrap();
        let option = OptionCode::from_code(header.code).unwrap();
        asked.clear();
        for (kind, data) in answers(option) {
            let mut bytes = Vec::new();
            encode_reply(&mut bytes, header.code, kind, &data);
            // Half of it says nothing.
            assert_eq!(client.step(&bytes[..bytes.len() - 1], &mut asked)?, (0, Step::Wait));
            let (used, step) = client.step(&bytes, &mut asked)?;
            assert_eq!(used, bytes.len());
            match step {
                Step::Done(agreed) => return Ok(agreed),
                Step::Wait | Step::Secure => {}
            }
        }
    }
}

fn export(size: u64, flags: u16) -> (ReplyKind, Vec<u8>) {
    (ReplyKind::Info, Info::Export { size, flags }.encode())
}

const UNSUPPORTED: ReplyKind = ReplyKind::Error(Refusal::Unsupported);

fn ack() -> (ReplyKind, Vec<u8>) {
    (ReplyKind::Ack, Vec::new())
}

fn able(option: OptionCode) -> Vec<(ReplyKind, Vec<u8>)> {
    match option {
        OptionCode::SetMetaContext => {
            vec![(ReplyKind::MetaContext, encode_context(7, context::ALLOCATION)), ack()]
        }
        OptionCode::Go => {
            let sizes = Info::BlockSize { minimum: 512, preferred: 4096, maximum: 1 << 20 };
            vec![export(1 << 30, 0x0f), (ReplyKind::Info, sizes.encode()), ack()]
        }
        _ => vec![ack()],
    }
}

#[test]
fn a_server_that_can_everything_is_asked_for_it() {
    let agreed = negotiate(&mut client(true), &able).unwrap();
    let expected = Agreed {
        style: Style::Extended,
        size: 1 << 30,
        flags: 0x0f,
        minimum: 512,
        maximum: 1 << 20,
        allocation: Some(7),
    };
    assert_eq!(agreed, expected);
}

#[test]
fn a_server_that_can_little_is_good_enough() {
    let answers = |option| match option {
        OptionCode::Go => vec![export(4096, flag::HAS_FLAGS), ack()],
        _ => vec![(UNSUPPORTED, Vec::new())],
    };
    let agreed = negotiate(&mut client(false), &answers).unwrap();
    assert_eq!((agreed.style, agreed.allocation), (Style::Simple, None));
    assert_eq!((agreed.minimum, agreed.maximum), (1, 32 << 20));
    let structured = |option| match option {
        OptionCode::StructuredReply => vec![ack()],
        other => answers(other),
    };
    let agreed = negotiate(&mut client(false), &structured).unwrap();
    assert_eq!((agreed.style, agreed.allocation), (Style::Structured, None));
}

#[test]
fn what_is_refused_has_its_name() {
    let refusing = |tls: bool, at: OptionCode, why: Refusal| {
        let answers = move |option| match option {
            option if option == at => vec![(ReplyKind::Error(why), b"text".to_vec())],
            option => able(option),
        };
        negotiate(&mut client(tls), &answers).unwrap_err()
    };
    assert_eq!(
        refusing(true, OptionCode::StartTls, Refusal::Policy),
        NegotiationError::NoTls(Refusal::Policy)
    );
    assert_eq!(
        refusing(false, OptionCode::ExtendedHeaders, Refusal::TlsRequired),
        NegotiationError::WantsTls
    );
    assert_eq!(
        refusing(false, OptionCode::Go, Refusal::UnknownExport).to_string(),
        "it has no export 'disk'"
    );
    assert_eq!(
        refusing(false, OptionCode::Go, Refusal::Policy),
        NegotiationError::Refused("disk".into(), Refusal::Policy)
    );
}

#[test]
fn sizes_that_cannot_be_are_not_believed() {
    let lies = [(0, 0), (3, 3 << 9), (1 << 17, 1 << 20), (4096, 512), (4096, 4097)];
    for (minimum, maximum) in lies {
        let answers = move |option| match option {
            OptionCode::Go => {
                let sizes = Info::BlockSize { minimum, preferred: 4096, maximum };
                vec![export(4096, 1), (ReplyKind::Info, sizes.encode()), ack()]
            }
            option => able(option),
        };
        assert!(negotiate(&mut client(false), &answers).is_err(), "{minimum} {maximum}");
    }
    for (size, flags) in [(u64::MAX, 1), (4096, 0)] {
        let answers = move |option| match option {
            OptionCode::Go => vec![export(size, flags), ack()],
            option => able(option),
        };
        assert!(negotiate(&mut client(false), &answers).is_err());
    }
    let nothing = |option| match option {
        OptionCode::Go => vec![ack()],
        option => able(option),
    };
    assert!(negotiate(&mut client(false), &nothing).is_err());
}

#[test]
fn a_server_that_never_comes_to_the_point_is_left() {
    let flood = |option| match option {
        OptionCode::Go => vec![export(4096, 1); 100],
        option => able(option),
    };
    let error = negotiate(&mut client(false), &flood).unwrap_err();
    assert_eq!(error, NegotiationError::Nonsense("an answer without end"));
    let mut out = Vec::new();
    let mut long = client(false);
    long.step(&greeting(), &mut out).unwrap();
    let mut bytes = Vec::new();
    encode_reply(
        &mut bytes,
        OptionCode::ExtendedHeaders.code(),
        UNSUPPORTED,
        &vec![b'x'; LONGEST + 1],
    );
    assert!(long.step(&bytes[..REPLY_HEADER], &mut out).is_err());
}

#[test]
fn who_speaks_something_else_is_no_server() {
    let mut out = Vec::new();
    let error = client(false).step(b"HTTP/1.1 400 Bad Request\r\n", &mut out).unwrap_err();
    assert_eq!(error, NegotiationError::Greeting);
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_ask_without_end(bytes in prop::collection::vec(any::<u8>(), 0..400), tls: bool) {
        let mut client = client(tls);
        let mut input = greeting().to_vec();
        input.extend(&bytes);
        let (mut at, mut out) = (0, Vec::new());
        while let Ok((used @ 1.., _)) = client.step(&input[at..], &mut out) {
            at += used;
        }
        prop_assert!(out.len() < 4096);
    }
}
