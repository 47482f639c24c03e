//! A client's reads before a block layer of the test's own, in one thread.

use std::os::fd::OwnedFd;

use bulkhead_block_client::Link;
use bulkhead_nbd::request::Command;
use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest};
use bulkhead_protocol::device::DiskInfo;
use bulkhead_ring::{Client as Ring, RingGeometry, Server, create};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::seqpacket::stream_pair;
use bulkhead_sys::stream::{Part, receive, send};

use super::*;
use crate::export::Export;
use crate::limits::{BATCH_BYTES, BATCH_PIECES, PIECE};

const OWNER: Owner = Owner { place: 0, uses: 1 };

/// Bytes of a simple reply without its data.
const REPLY: usize = 16;

struct Rig {
    layer: Server<BlockRequest, BlockCompletion>,
    desk: Desk,
    client: OwnedFd,
    stream: Stream,
    input: Input,
    output: Output,
    transmission: Transmission,
}

impl Rig {
    fn new() -> Self {
        let geometry = RingGeometry::new(256, 32 << 20).unwrap();
        let ring = create(geometry, 1).unwrap();
        let bell = || Doorbell::new().unwrap();
        let client = Ring::attach(&ring, geometry, 1).unwrap();
        let link = Link::new(client, geometry, bell(), bell());
        let disk = DiskInfo {
            size: 1 << 30,
            logical_block: 512,
            physical_block: 4096,
            optimal_io: 0,
            read_only: false,
            discard: true,
            flush: true,
        };
        let (name, description, bitmap) = ("disk".into(), String::new(), None);
        let (client, server) = stream_pair().unwrap();
        let agreement = Agreement { style: Style::Simple, contexts: Vec::new() };
        Self {
            layer: Server::attach(&ring, geometry, 1).unwrap(),
            desk: Desk::new(Export { name, description, bitmap, disk }, link),
            client,
            stream: Stream::plain(server),
            input: Input::default(),
            output: Output::default(),
            transmission: Transmission::new(OWNER, agreement),
        }
    }

    fn ask(&self, count: u64, len: u64) {
        let command = Command::Read.code();
        let mut bytes = Vec::new();
        for cookie in 0..count {
            let request = Request { flags: 0, command, cookie, offset: cookie * len, len };
            request.encode(&mut bytes, false);
        }
        assert_eq!(send(&self.client, &[Part::Bytes(&bytes)]).unwrap(), bytes.len());
    }

    fn serve(&mut self) -> Served {
        let (stream, input, output) = (&mut self.stream, &mut self.input, &mut self.output);
        self.transmission.serve(stream, input, output, &mut self.desk).unwrap()
    }

    /// Completes what is shown to block-layer; how many there were.
    fn complete(&mut self) -> usize {
        self.desk.publish();
        let mut count = 0;
        while let Some(request) = self.layer.submit.pop().unwrap() {
            let completion = BlockCompletion { tag: request.tag, status: 0, reserved: [0; 5] };
            self.layer.complete.push(completion).unwrap();
            let _ = self.layer.complete.publish();
            let done = self.desk.link.next_done().unwrap().unwrap();
            self.transmission.finish(done, &mut self.output, &mut self.desk).unwrap();
            count += 1;
        }
        count
    }

    fn send(&mut self) {
        let (stream, link) = (&mut self.stream, &mut self.desk.link);
        let released = self.output.send(stream, link, self.desk.now).unwrap();
        self.transmission.released(&mut self.desk.pool, released);
    }

    /// What the client finds; how many bytes.
    fn take(&self) -> usize {
        let mut bytes = vec![0; 1 << 20];
        receive(&self.client, &mut bytes).unwrap_or(0)
    }
}

#[test]
fn block_layer_is_shown_a_few_requests_while_the_others_wait_for_their_turn() {
    let mut rig = Rig::new();
    rig.ask(20, 4096);
    let mut batches = Vec::new();
    loop {
        let served = rig.serve();
        batches.push(rig.complete());
        rig.send();
        if served == Served::Idle {
            break;
        }
        assert_eq!(served, Served::Again, "nothing but the batch keeps it from going on");
    }
    let most = BATCH_PIECES as usize;
    assert!(batches.iter().all(|batch| *batch <= most), "{batches:?}");
    assert_eq!(batches.iter().sum::<usize>(), 20);
    assert_eq!(rig.take(), 20 * (REPLY + 4096));
}

#[test]
fn a_long_read_goes_out_in_batches_too() {
    let mut rig = Rig::new();
    rig.ask(1, 4 * BATCH_BYTES);
    assert_eq!(rig.serve(), Served::Again);
    assert_eq!(rig.complete() as u64, BATCH_BYTES / PIECE);
}

#[test]
fn a_client_that_does_not_take_its_answers_has_little_read_for_it() {
    let mut rig = Rig::new();
    rig.ask(32, PIECE);
    let mut pieces = 0;
    for _ in 0..64 {
        rig.serve();
        pieces += rig.complete();
    }
    let ahead = MOST_UNSENT + BATCH_BYTES;
    assert!(pieces as u64 * PIECE <= ahead, "{pieces} pieces for a client that takes none");
    assert!(rig.transmission.is_behind(&rig.output));
    // It takes them after all, and gets all the others.
    let mut taken = 0;
    for _ in 0..10_000 {
        rig.send();
        taken += rig.take();
        rig.transmission.news();
        rig.serve();
        rig.complete();
    }
    assert_eq!(taken as u64, 32 * (REPLY as u64 + PIECE));
}

#[test]
fn a_socket_that_was_emptied_is_asked_again_when_it_has_news() {
    let mut rig = Rig::new();
    rig.ask(1, 4096);
    assert_eq!(rig.serve(), Served::Idle);
    assert_eq!(rig.complete(), 1);
    rig.ask(2, 4096);
    assert_eq!(rig.serve(), Served::Idle);
    assert_eq!(rig.complete(), 0, "nobody has told of them");
    rig.transmission.news();
    assert_eq!(rig.serve(), Served::Idle);
    assert_eq!(rig.complete(), 2);
}
