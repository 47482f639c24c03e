//! What goes out comes back, what is known stands where the standard has it, and no bytes make it panic.

use proptest::prelude::*;

use crate::error::Error;
use crate::handshake::{self, OptionHeader, Refusal, ReplyKind};
use crate::option::{ContextQuery, Info, InfoCode, InfoQuery, OptionCode};
use crate::reply::{self, Addressee, ChunkKind, Extent, ReplyHeader, Style};
use crate::request::{self, Request};
use crate::{LONGEST_NAME, Malformed, context, option};

const TO: Addressee = Addressee { cookie: 0x0102_0304_0506_0708, offset: 0x1000 };

#[test]
fn a_greeting_is_the_two_magic_numbers_and_the_flags() {
    let greeting = handshake::greeting();
    assert_eq!(&greeting, b"NBDMAGICIHAVEOPT\x00\x03");
    assert_eq!(handshake::decode_greeting(&greeting), Ok(3));
    let mut oldstyle = greeting;
    oldstyle[8..16].copy_from_slice(&0x0000_4202_8186_1253_u64.to_be_bytes());
    assert!(matches!(handshake::decode_greeting(&oldstyle), Err(Malformed::Magic(_))));
}

#[test]
fn client_flags_that_nobody_defined_are_refused() {
    assert_eq!(handshake::decode_client_flags([0, 0, 0, 1]), Ok(false));
    assert_eq!(handshake::decode_client_flags([0, 0, 0, 3]), Ok(true));
    assert!(handshake::decode_client_flags([0, 0, 0, 2]).is_err());
    assert!(handshake::decode_client_flags([0x80, 0, 0, 1]).is_err());
}

#[test]
fn reply_kinds_have_their_numbers() {
    let errors = [
        (Refusal::Unsupported, 1),
        (Refusal::TlsRequired, 5),
        (Refusal::UnknownExport, 6),
        (Refusal::TooBig, 9),
        (Refusal::ExtendedHeadersRequired, 10),
    ];
    for (refusal, number) in errors {
        assert_eq!(ReplyKind::Error(refusal).code(), 1 << 31 | number);
    }
    for code in (0..20).chain((0..20).map(|code| 1 << 31 | code)) {
        assert_eq!(ReplyKind::from_code(code).code(), code);
    }
}

#[test]
fn a_compact_request_is_28_bytes_and_an_extended_one_32() {
    let request = Request { flags: 1, command: 1, cookie: 7, offset: 512, len: 4096 };
    let mut bytes = Vec::new();
    request.encode(&mut bytes, false);
    assert_eq!(bytes[..8], [0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1]);
    assert_eq!(Request::decode_compact(bytes[..].try_into().unwrap()), Ok(request));
    let long = Request { len: 1 << 40, ..request };
    bytes.clear();
    long.encode(&mut bytes, true);
    assert_eq!(Request::decode_extended(bytes[..].try_into().unwrap()), Ok(long));
    assert_eq!(bytes.len(), request::EXTENDED);
}

#[test]
fn an_error_is_never_the_number_of_success_and_host_numbers_are_mapped() {
    for code in 0..200 {
        assert_ne!(Error::from_code(code).code(), 0);
        assert_ne!(Error::from_errno(code).code(), 0);
    }
    assert_eq!(Error::from_errno(27), Error::NoSpace);
    assert_eq!(Error::from_errno(122), Error::NoSpace);
    assert_eq!(Error::from_errno(9), Error::Io);
}

#[test]
fn a_simple_error_has_no_room_for_a_reason_and_a_chunk_has() {
    let mut bytes = Vec::new();
    reply::encode_error(&mut bytes, Style::Simple, TO, Error::NoSpace, "full");
    assert_eq!(bytes.len(), reply::SIMPLE);
    let simple = ReplyHeader::Simple { cookie: TO.cookie, result: Err(Error::NoSpace) };
    assert_eq!(ReplyHeader::decode(&bytes), Ok(simple));
    for style in [Style::Structured, Style::Extended] {
        bytes.clear();
        reply::encode_error(&mut bytes, style, TO, Error::NoSpace, "full");
        let len = reply::header_len(bytes[..4].try_into().unwrap()).unwrap();
        let header = ReplyHeader::decode(&bytes[..len]).unwrap();
        let kind = ChunkKind::Error;
        assert_eq!(header, ReplyHeader::Chunk { cookie: TO.cookie, done: true, kind, len: 10 });
        assert_eq!(reply::decode_error(&bytes[len..]), Ok((Error::NoSpace, "full")));
    }
}

#[test]
fn status_comes_back_in_both_widths() {
    let extents = [Extent { len: 512, status: 3 }, Extent { len: 1 << 20, status: 0 }];
    for (style, kind) in
        [(Style::Structured, ChunkKind::Status), (Style::Extended, ChunkKind::ExtendedStatus)]
    {
        let mut bytes = Vec::new();
        reply::encode_status(&mut bytes, style, TO, 9, &extents, true);
        let len = reply::header_len(bytes[..4].try_into().unwrap()).unwrap();
        let ReplyHeader::Chunk { kind: said, len: payload, .. } =
            ReplyHeader::decode(&bytes[..len]).unwrap()
        else {
            panic!("a chunk");
        };
        assert_eq!((said, payload as usize), (kind, bytes.len() - len));
        assert_eq!(reply::decode_status(&bytes[len..], kind), Ok((9, extents.to_vec())));
    }
}

#[test]
fn names_that_are_too_long_or_no_text_are_refused() {
    let long = "x".repeat(LONGEST_NAME + 1);
    let query = InfoQuery { name: &long, wanted: Vec::new() };
    assert_eq!(InfoQuery::decode(&query.encode()), Err(Malformed::Text));
    assert_eq!(option::decode_export_name(b"a\0b"), Err(Malformed::Text));
    assert_eq!(option::decode_export_name(b"\xff"), Err(Malformed::Text));
}

#[test]
fn a_number_of_queries_that_cannot_follow_allocates_nothing() {
    let mut data = 0u32.to_be_bytes().to_vec();
    data.extend(u32::MAX.to_be_bytes());
    assert_eq!(ContextQuery::decode(&data), Err(Malformed::Short));
}

#[test]
fn a_query_that_ends_with_a_colon_asks_for_all_below_it() {
    assert!(context::asks_for("base:", context::ALLOCATION));
    assert!(context::asks_for("qemu:allocation-depth", context::DEPTH));
    assert!(!context::asks_for("base", context::ALLOCATION));
    assert!(!context::asks_for("qemu:", context::ALLOCATION));
}

proptest! {
    #[test]
    fn info_queries_come_back(name in "[a-z/é]{0,40}", wanted in prop::collection::vec(0u16..4, 0..8)) {
        let wanted = wanted.into_iter().filter_map(InfoCode::from_code).collect();
        let query = InfoQuery { name: &name, wanted };
        let data = query.encode();
        prop_assert_eq!(InfoQuery::decode(&data), Ok(query));
    }

    #[test]
    fn context_queries_come_back(export in "[a-z]{0,9}", queries in prop::collection::vec("[a-z:]{0,20}", 0..9)) {
        let queries = queries.iter().map(String::as_str).collect();
        let query = ContextQuery { export: &export, queries };
        let data = query.encode();
        prop_assert_eq!(ContextQuery::decode(&data), Ok(query));
    }

    #[test]
    fn information_comes_back(size: u64, flags: u16, sizes: [u32; 3], name in "[a-z]{0,30}") {
        let [minimum, preferred, maximum] = sizes;
        let infos = [
            Info::Export { size, flags },
            Info::Name(&name),
            Info::Description(&name),
            Info::BlockSize { minimum, preferred, maximum },
        ];
        for info in infos {
            let data = info.encode();
            prop_assert_eq!(Info::decode(&data), Ok(Some(info)));
        }
    }

    #[test]
    fn options_come_back(code in 0u32..12, data in prop::collection::vec(any::<u8>(), 0..64)) {
        let Some(code) = OptionCode::from_code(code) else { return Ok(()) };
        let mut bytes = Vec::new();
        handshake::encode_option(&mut bytes, code, &data);
        let header = OptionHeader::decode(bytes[..16].try_into().unwrap()).unwrap();
        prop_assert_eq!(header, OptionHeader { code: code.code(), len: data.len() as u32 });
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = InfoQuery::decode(&bytes);
        let _ = ContextQuery::decode(&bytes);
        let _ = Info::decode(&bytes);
        let _ = option::decode_context(&bytes);
        let _ = option::decode_export_name(&bytes);
        let _ = ReplyHeader::decode(&bytes);
        let _ = reply::decode_error(&bytes);
        let _ = reply::decode_hole(&bytes);
        let _ = reply::decode_status(&bytes, ChunkKind::Status);
        let _ = reply::decode_status(&bytes, ChunkKind::ExtendedStatus);
        if let Some(header) = bytes.first_chunk() {
            let _ = Request::decode_extended(header);
        }
        if let Some(header) = bytes.first_chunk() {
            let _ = Request::decode_compact(header);
        }
    }
}
