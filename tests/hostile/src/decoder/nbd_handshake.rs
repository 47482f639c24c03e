//! A client's bytes, understood by the NBD server's handshake: it ends, answers little, and gives nothing
//! away before TLS where that is wanted.

use bulkhead_nbd_server::export::Export;
use bulkhead_nbd_server::handshake::{Handshake, Step};
use bulkhead_nbd_server::limits::MOST_OPTIONS;
use bulkhead_protocol::device::DiskInfo;
use bulkhead_stream::Input;

use super::Verdict;
use crate::draw::Draw;

/// Longest answer to one option.
const LONGEST_ANSWER: usize = 1024;

/// What an export is.
pub(super) fn export(read_only: bool) -> Export {
    let disk = DiskInfo {
        size: 1 << 30,
        logical_block: 512,
        physical_block: 4096,
        optimal_io: 0,
        read_only,
        discard: true,
        flush: true,
    };
    Export { name: "disk".into(), description: "a disk".into(), bitmap: None, disk }
}

/// Whether TLS is wanted, from the first byte; then the client, whose bytes come in parts.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let traits = draw.byte();
    let tls = traits & 1 != 0;
    let export = export(traits & 2 != 0);
    let part = usize::from(traits >> 2) + 1;
    let (mut handshake, mut input) = (Handshake::new(tls), Input::default());
    let (mut output, mut secured) = (Vec::new(), false);
    while !draw.is_over() {
        input.add(draw.bytes(part));
        match handshake.step(&mut input, &mut output, &export) {
            Ok(Step::Wait) => {}
            Ok(Step::Secure) => {
                assert!(tls && !secured, "TLS begins once, and where it is wanted");
                secured = true;
                handshake.secured();
            }
            Ok(Step::Agreed(_)) => {
                assert!(secured || !tls, "an agreement in the clear");
                return Verdict::Accepted;
            }
            Ok(Step::Over) => return Verdict::Accepted,
            Err(_) => return Verdict::Refused,
        }
        assert!(output.len() <= (MOST_OPTIONS as usize + 1) * LONGEST_ANSWER);
    }
    Verdict::accepted_if(!output.is_empty())
}

/// A whole handshake, and one that begins with TLS.
pub fn samples() -> Vec<Vec<u8>> {
    use bulkhead_nbd::handshake::encode_option;
    use bulkhead_nbd::option::{ContextQuery, InfoQuery, OptionCode};
    let contexts = ContextQuery { export: "disk", queries: vec!["base:allocation"] }.encode();
    let go = InfoQuery { name: "disk", wanted: Vec::new() }.encode();
    let options = [
        (OptionCode::List, Vec::new()),
        (OptionCode::StructuredReply, Vec::new()),
        (OptionCode::ExtendedHeaders, Vec::new()),
        (OptionCode::ListMetaContext, contexts.clone()),
        (OptionCode::SetMetaContext, contexts),
        (OptionCode::Info, go.clone()),
        (OptionCode::Go, go),
    ];
    let mut plain = vec![0xfc, 0, 0, 0, 3];
    options.iter().for_each(|(code, data)| encode_option(&mut plain, *code, data));
    // One option at a time: what comes behind STARTTLS in the same breath is an attack.
    let mut tls = vec![(15 << 2) | 1];
    tls.extend([0, 0, 0, 3]);
    let mut begin = Vec::new();
    encode_option(&mut begin, OptionCode::StartTls, &[]);
    tls.extend(begin);
    let mut name = vec![0xfc, 0, 0, 0, 1];
    encode_option(&mut name, OptionCode::ExportName, b"disk");
    vec![plain, tls, name]
}
