//! Handshakes without sockets.

use bulkhead_nbd::handshake::{REPLY_HEADER, ReplyHeader, encode_option};
use bulkhead_nbd::option::{ContextQuery, Info, InfoQuery, OptionCode, decode_context};
use bulkhead_protocol::device::DiskInfo;
use proptest::prelude::*;

use super::*;

fn export() -> Export {
    let disk = DiskInfo {
        size: 1 << 20,
        logical_block: 512,
        physical_block: 4096,
        optimal_io: 0,
        read_only: false,
        discard: true,
        flush: true,
    };
    Export { name: "disk".into(), description: "a disk".into(), bitmap: None, disk }
}

struct Client {
    handshake: Handshake,
    input: Input,
}

type Reply = (ReplyKind, Vec<u8>);

impl Client {
    fn new(tls: bool) -> Self {
        let mut input = Input::default();
        input.add(&[0, 0, 0, 3]);
        Self { handshake: Handshake::new(tls), input }
    }

    fn try_say(&mut self, option: OptionCode, data: &[u8]) -> Result<(Step, Vec<Reply>), Fault> {
        let mut bytes = Vec::new();
        encode_option(&mut bytes, option, data);
        self.input.add(&bytes);
        let mut output = Vec::new();
        let step = self.handshake.step(&mut self.input, &mut output, &export())?;
        let mut replies = Vec::new();
        let mut rest = output.as_slice();
        while let Some(head) = rest.first_chunk::<REPLY_HEADER>() {
            let header = ReplyHeader::decode(head).unwrap();
            assert_eq!(header.option, option.code());
            let end = REPLY_HEADER + header.len as usize;
            replies.push((header.kind, rest[REPLY_HEADER..end].to_vec()));
            rest = &rest[end..];
        }
        assert!(rest.is_empty() || option == OptionCode::ExportName);
        Ok((step, replies))
    }

    fn say(&mut self, option: OptionCode, data: &[u8]) -> (Step, Vec<Reply>) {
        self.try_say(option, data).unwrap()
    }
}

fn named(name: &str) -> Vec<u8> {
    InfoQuery { name, wanted: Vec::new() }.encode()
}

fn contexts(queries: &[&str]) -> Vec<u8> {
    ContextQuery { export: "disk", queries: queries.to_vec() }.encode()
}

fn refusal(replies: &[Reply]) -> Option<Refusal> {
    match replies.last() {
        Some((ReplyKind::Error(refusal), _)) => Some(*refusal),
        _ => None,
    }
}

#[test]
fn go_tells_size_flags_and_block_sizes_and_ends_the_handshake() {
    let mut client = Client::new(false);
    let (step, replies) = client.say(OptionCode::Go, &named("disk"));
    assert_eq!(step, Step::Agreed(Agreement { style: Style::Simple, contexts: Vec::new() }));
    let infos: Vec<_> = replies.iter().filter(|(kind, _)| *kind == ReplyKind::Info).collect();
    assert!(matches!(Info::decode(&infos[0].1), Ok(Some(Info::Export { size: 0x10_0000, .. }))));
    let sizes = Info::BlockSize { minimum: 512, preferred: 4096, maximum: 32 << 20 };
    assert_eq!(Info::decode(&infos[1].1), Ok(Some(sizes)));
    assert_eq!(replies.last().unwrap().0, ReplyKind::Ack);
}

#[test]
fn an_export_that_is_not_is_refused_and_the_handshake_goes_on() {
    let mut client = Client::new(false);
    let (step, replies) = client.say(OptionCode::Go, &named("other"));
    assert_eq!((step, refusal(&replies)), (Step::Wait, Some(Refusal::UnknownExport)));
    let (step, _) = client.say(OptionCode::Go, &named(""));
    assert!(matches!(step, Step::Agreed(_)));
    let fault = Client::new(false).try_say(OptionCode::ExportName, b"other").unwrap_err();
    assert_eq!(fault, Fault::Export);
}

#[test]
fn contexts_need_structured_replies_and_are_forgotten_by_a_bad_choice() {
    let mut client = Client::new(false);
    let all = contexts(&["base:allocation", "x:y", "qemu:allocation-depth"]);
    let (_, replies) = client.say(OptionCode::SetMetaContext, &all);
    assert_eq!(refusal(&replies), Some(Refusal::Invalid));
    client.say(OptionCode::StructuredReply, &[]);
    let (_, replies) = client.say(OptionCode::SetMetaContext, &all);
    let told: Vec<_> = replies.iter().filter(|(kind, _)| *kind == ReplyKind::MetaContext).collect();
    assert_eq!(decode_context(&told[0].1), Ok((1, "base:allocation")));
    assert_eq!(decode_context(&told[1].1), Ok((2, "qemu:allocation-depth")));
    let (_, replies) = client.say(OptionCode::SetMetaContext, &[1, 2, 3]);
    assert_eq!(refusal(&replies), Some(Refusal::Invalid));
    let (step, _) = client.say(OptionCode::Go, &named("disk"));
    assert_eq!(step, Step::Agreed(Agreement { style: Style::Structured, contexts: Vec::new() }));
}

#[test]
fn a_list_of_contexts_can_be_asked_for_by_namespace() {
    let mut client = Client::new(false);
    client.say(OptionCode::ExtendedHeaders, &[]);
    let count = |client: &mut Client, queries: &[&str]| {
        let (_, replies) = client.say(OptionCode::ListMetaContext, &contexts(queries));
        replies.iter().filter(|(kind, _)| *kind == ReplyKind::MetaContext).count()
    };
    assert_eq!(count(&mut client, &[]), 2);
    assert_eq!(count(&mut client, &["qemu:"]), 1);
    assert_eq!(count(&mut client, &["none:"]), 0);
}

#[test]
fn extended_headers_do_not_go_back_to_structured_ones() {
    let mut client = Client::new(false);
    client.say(OptionCode::ExtendedHeaders, &[]);
    let (_, replies) = client.say(OptionCode::StructuredReply, &[]);
    assert_eq!(refusal(&replies), Some(Refusal::ExtendedHeadersRequired));
}

#[test]
fn in_the_clear_nothing_is_served_that_wants_tls() {
    for option in [OptionCode::List, OptionCode::Go, OptionCode::StructuredReply] {
        let mut client = Client::new(true);
        let (step, replies) = client.say(option, &named("disk"));
        assert_eq!((step, refusal(&replies)), (Step::Wait, Some(Refusal::TlsRequired)));
    }
    let fault = Client::new(true).try_say(OptionCode::ExportName, b"disk").unwrap_err();
    assert_eq!(fault, Fault::Export);
    let mut client = Client::new(true);
    assert_eq!(client.say(OptionCode::StartTls, &[]).0, Step::Secure);
    client.handshake.secured();
    assert_eq!(refusal(&client.say(OptionCode::StartTls, &[]).1), Some(Refusal::Invalid));
    assert!(matches!(client.say(OptionCode::Go, &named("disk")).0, Step::Agreed(_)));
}

#[test]
fn data_in_the_clear_behind_starttls_ends_the_session() {
    let mut client = Client::new(true);
    let mut bytes = Vec::new();
    encode_option(&mut bytes, OptionCode::StartTls, &[]);
    encode_option(&mut bytes, OptionCode::List, &[]);
    client.input.add(&bytes);
    let step = client.handshake.step(&mut client.input, &mut Vec::new(), &export());
    assert_eq!(step, Err(Fault::Injected));
}

#[test]
fn without_tls_it_is_refused_by_policy() {
    let (_, replies) = Client::new(false).say(OptionCode::StartTls, &[]);
    assert_eq!(refusal(&replies), Some(Refusal::Policy));
}

#[test]
fn a_flood_of_options_ends() {
    let mut client = Client::new(false);
    for _ in 0..MOST_OPTIONS {
        client.say(OptionCode::List, &[]);
    }
    assert_eq!(client.try_say(OptionCode::List, &[]).unwrap_err(), Fault::Options);
}

#[test]
fn a_long_option_is_read_past_and_one_without_end_is_not() {
    let mut client = Client::new(false);
    let (_, replies) = client.say(OptionCode::Info, &vec![0; LONGEST_OPTION as usize + 1]);
    assert_eq!(refusal(&replies), Some(Refusal::TooBig));
    assert_eq!(client.say(OptionCode::List, &[]).1.len(), 2);
    let mut bytes = Vec::new();
    encode_option(&mut bytes, OptionCode::Info, &[]);
    bytes[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    client.input.add(&bytes);
    let step = client.handshake.step(&mut client.input, &mut Vec::new(), &export());
    assert_eq!(step, Err(Fault::Long(u32::MAX.into())));
}

proptest! {
    #[test]
    fn no_bytes_make_a_handshake_panic(
        tls: bool,
        options in prop::collection::vec((0u32..16, prop::collection::vec(any::<u8>(), 0..64)), 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut client = Client::new(tls);
        for (code, data) in options {
            let mut bytes = Vec::new();
            encode_option(&mut bytes, OptionCode::List, &data);
            bytes[8..12].copy_from_slice(&code.to_be_bytes());
            client.input.add(&bytes);
        }
        client.input.add(&tail);
        let mut output = Vec::new();
        for _ in 0..24 {
            if client.handshake.step(&mut client.input, &mut output, &export()).is_err() {
                break;
            }
        }
        prop_assert!(output.len() < 64 << 10);
    }
}
