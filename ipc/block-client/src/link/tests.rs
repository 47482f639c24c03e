//! A link before a block layer of the test's own.

use bulkhead_protocol::block_ring::Operation;
use bulkhead_ring::{Server, create};

use super::*;

const ENTRIES: u32 = 4;

fn geometry() -> RingGeometry {
    RingGeometry::new(ENTRIES, 64 << 10).unwrap()
}

fn ring(incarnation: u64) -> (BlockClient, Server<BlockRequest, BlockCompletion>) {
    let ring = create(geometry(), incarnation).unwrap();
    let client = Client::attach(&ring, geometry(), incarnation).unwrap();
    (client, Server::attach(&ring, geometry(), incarnation).unwrap())
}

fn link() -> (Link<u32>, Server<BlockRequest, BlockCompletion>) {
    let (client, server) = ring(1);
    let bell = || Doorbell::new().unwrap();
    (Link::new(client, geometry(), bell(), bell()), server)
}

fn read(whose: u32) -> Piece<u32> {
    let offset = u64::from(whose) * 4096;
    Piece { whose, operation: Operation::Read, flags: 0, offset, len: 4096 }
}

fn submit(link: &mut Link<u32>, whose: u32) {
    let span = link.take_span(read(whose).span());
    assert!(link.has_tag() && span.is_some());
    link.submit(read(whose), span).unwrap();
}

fn taken(server: &mut Server<BlockRequest, BlockCompletion>) -> Vec<BlockRequest> {
    std::iter::from_fn(|| server.submit.pop().unwrap()).collect()
}

fn answer(server: &mut Server<BlockRequest, BlockCompletion>, tag: u64, status: u32) {
    server.complete.push(BlockCompletion { tag, status, reserved: [0; 5] }).unwrap();
    let _ = server.complete.publish();
}

#[test]
fn a_piece_comes_back_with_its_span_and_its_status_in_any_order() {
    let (mut link, mut server) = link();
    for whose in 0..3 {
        submit(&mut link, whose);
    }
    assert!(taken(&mut server).is_empty(), "nothing was published");
    link.publish();
    let requests = taken(&mut server);
    for (status, request) in requests.iter().rev().enumerate() {
        answer(&mut server, request.tag, status as u32);
    }
    for (status, whose) in [2, 1, 0].into_iter().enumerate() {
        let done = link.next_done().unwrap().unwrap();
        assert_eq!((done.piece, done.status), (read(whose), status as u32));
        let span = done.span.as_ref().map(ArenaSpan::offset);
        assert_eq!(span, Some(requests[whose as usize].span.into()));
        link.release(done.span);
    }
    assert_eq!(link.outstanding(), 0);
}

#[test]
fn a_completion_of_what_is_not_out_blames_block_layer() {
    let (mut link, mut server) = link();
    submit(&mut link, 1);
    link.publish();
    let tag = taken(&mut server)[0].tag;
    answer(&mut server, tag, 0);
    assert!(link.next_done().unwrap().is_some());
    for tag in [tag, tag + 1, u64::MAX] {
        answer(&mut server, tag, 0);
        assert_eq!(link.next_done().unwrap_err(), LinkFault::UnknownTag(tag));
    }
}

#[test]
fn there_are_as_many_tags_as_entries() {
    let (mut link, mut server) = link();
    for whose in 0..ENTRIES {
        submit(&mut link, whose);
    }
    assert!(!link.has_tag());
    link.publish();
    let third = taken(&mut server)[2].tag;
    answer(&mut server, third, 0);
    assert!(link.next_done().unwrap().is_some() && link.has_tag());
}

#[test]
fn a_successor_is_given_what_was_out_in_its_old_order_and_its_old_spans() {
    let (mut link, mut server) = link();
    for whose in 0..3 {
        submit(&mut link, whose);
    }
    link.publish();
    let requests = taken(&mut server);
    answer(&mut server, requests[1].tag, 0);
    let done = link.next_done().unwrap().unwrap();
    link.release(done.span);
    submit(&mut link, 3);
    let (client, mut successor) = ring(2);
    let (_old, out) = link.replace(client);
    assert_eq!(out.iter().map(|out| out.piece.whose).collect::<Vec<_>>(), [0, 2, 3]);
    for mut out in out {
        out.attempts += 1;
        link.resubmit(out).unwrap();
    }
    link.publish();
    let again = taken(&mut successor);
    assert_eq!(again.iter().map(|request| request.offset / 4096).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!([again[0].span, again[1].span], [requests[0].span, requests[2].span]);
    // Tags of the old ring are worth nothing.
    answer(&mut successor, requests[0].tag, 0);
    assert!(link.next_done().is_err());
    let (client, _) = ring(3);
    let (_, out) = link.replace(client);
    assert!(out.iter().all(|out| out.attempts == 1));
}
