//! A client's request, judged by the NBD server: what passes lies inside the disk, changes nothing that is
//! read-only, and brings as much data as it says.

use bulkhead_nbd::reply::{Addressee, Style};
use bulkhead_nbd::request::{COMPACT, EXTENDED, Request};
use bulkhead_nbd_server::judge::{Task, Verdict as Judged, judge};
use bulkhead_nbd_server::limits::MOST_PAYLOAD;
use bulkhead_nbd_server::work::{Work, wanted};

use super::Verdict;
use super::nbd_handshake::export;
use crate::draw::Draw;

/// Replies, contexts and rights from the first byte, then a request's header.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let traits = draw.byte();
    let style = [Style::Simple, Style::Structured, Style::Extended][usize::from(traits % 3)];
    let (contexts, read_only) = (traits & 0x10 != 0, traits & 0x20 != 0);
    let head = draw.rest();
    let request = match style {
        Style::Extended => head.first_chunk::<EXTENDED>().map(Request::decode_extended),
        _ => head.first_chunk::<COMPACT>().map(Request::decode_compact),
    };
    let Some(Ok(request)) = request else {
        return Verdict::Refused;
    };
    let export = export(read_only);
    let judgement = judge(&request, &export, style, contexts);
    let Judged::Do(task) = judgement.verdict else {
        assert!(judgement.payload <= MOST_PAYLOAD.into() || judgement.verdict == Judged::Lost);
        return Verdict::Refused;
    };
    let changes = matches!(task, Task::Write { .. } | Task::Change { .. });
    assert!(!(changes && read_only), "{task:?} of a read-only export");
    if let Task::Write { range, .. } = task {
        assert_eq!(range.len, judgement.payload);
    }
    let mut work = Work::new(Addressee { cookie: 1, offset: request.offset }, task, export.block());
    let mut data = 0;
    while !work.is_whole() {
        let need = work.next();
        assert!(need.offset + need.len <= export.disk.size, "{need:?} outside of the disk");
        assert!((need.offset | need.len).is_multiple_of(512), "{need:?} in parts of a block");
        if let Task::Read { range, .. } = task {
            let (from, to) = wanted(range, need.offset, need.len as u32);
            assert!(from < to, "a piece of which nothing is wanted");
            data += u64::from(to - from);
        }
        work.sent(need.len);
    }
    if let Task::Read { range, .. } = task {
        assert_eq!(data, range.len, "as much as was asked for");
    }
    Verdict::Accepted
}

/// One request of each command, in each style.
pub fn samples() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (style, command) in (0..3u8).flat_map(|style| (0..8).map(move |command| (style, command))) {
        let len = if command == 3 { 0 } else { 8192 };
        let offset = if command == 3 { 0 } else { 4096 };
        let request = Request { flags: 0, command, cookie: 5, offset, len };
        // 0x12 is a multiple of three, and says that contexts were chosen.
        let mut bytes = vec![0x12 + style];
        request.encode(&mut bytes, style == 2);
        all.push(bytes);
    }
    all
}
