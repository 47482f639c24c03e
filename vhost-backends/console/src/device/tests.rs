use std::os::fd::AsFd;
use std::sync::Arc;

use bulkhead_backend_kit::{InflightTable, QueueStart};
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::device::QueuePlan;
use bulkhead_protocol::inflight::table_size;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::seqpacket;
use bulkhead_virtqueue::QueueSetup;
use bulkhead_virtqueue::driver::{Segment, SplitDriver, Used, layout, ram};

use super::*;

const RAM: u64 = 1 << 20;
const SIZE: u16 = 64;

/// A console between a guest and whoever holds the other end of its stream.
struct Rig {
    memory: GuestMemory,
    _ram: OwnedFd,
    table: OwnedFd,
    setups: [QueueSetup; 2],
    drivers: [SplitDriver; 2],
    queues: [Option<LiveQueue>; 2],
    device: Console,
    poller: Poller,
    stream: OwnedFd,
    far: OwnedFd,
}

impl Rig {
    fn new() -> Self {
        let (memory, ram) = ram(RAM);
        let setup = |base| QueueSetup {
            size: SIZE,
            addresses: layout(base, SIZE),
            event_idx: true,
            indirect: true,
        };
        let setups = [setup(0x1000), setup(0x4000)];
        let (far, stream) = seqpacket::stream_pair().unwrap();
        let mut rig = Self {
            drivers: setups.map(|setup| SplitDriver::new(&memory, setup)),
            memory,
            _ram: ram,
            table: create_sealed("inflight", table_size(2, SIZE)).unwrap(),
            setups,
            queues: [None, None],
            device: Console::new(stream.try_clone().unwrap()),
            poller: Poller::new().unwrap(),
            stream,
            far,
        };
        rig.begin();
        rig
    }

    /// A process begins with what its predecessor left, if there was one.
    fn begin(&mut self) {
        self.device = Console::new(self.stream.try_clone().unwrap());
        self.poller = Poller::new().unwrap();
        self.device.watch(&self.poller, 0).unwrap();
        let plan = QueuePlan { queues: 2, queue_size: SIZE, own_fault: false };
        let table = InflightTable::map(plan, self.table.try_clone().unwrap()).unwrap();
        let table = Arc::new(table);
        for index in 0..2 {
            let start = QueueStart {
                index: index as u16,
                setup: self.setups[index],
                packed: false,
                features: 0,
                memory: self.memory.clone(),
                base: 0,
                kick: Doorbell::new().unwrap(),
                call: None,
                err: None,
                table: Some(table.clone()),
                enabled: true,
                own_fault: false,
            };
            self.queues[index] = Some(LiveQueue::start(start).unwrap());
        }
    }

    /// One turn: events, service, answers shown.
    fn turn(&mut self) -> bool {
        let mut events = Vec::new();
        self.poller.wait(Some(std::time::Duration::ZERO), &mut events).unwrap();
        for event in &events {
            self.device.event(&self.poller, *event).unwrap();
        }
        let any = self.device.serve(&mut self.queues).unwrap();
        self.queues.iter_mut().flatten().for_each(LiveQueue::flush);
        any || !events.is_empty()
    }

    fn settle(&mut self) {
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 10_000, "it never sleeps");
        }
    }

    fn print(&mut self, addr: u64, text: &[u8]) -> u16 {
        self.put(addr, text);
        self.drivers[TRANSMIT].add(&[Segment::read(addr, text.len() as u32)]).unwrap()
    }

    fn put(&self, addr: u64, bytes: &[u8]) {
        let place = self.memory.check(GuestRange::new(addr, bytes.len() as u64)).unwrap();
        place.copy_out(bytes).unwrap();
    }

    fn get(&self, addr: u64, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let place = self.memory.check(GuestRange::new(addr, len.into())).unwrap();
        place.copy_in(&mut bytes).unwrap();
        bytes
    }

    fn hear(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let mut heard = Vec::new();
        while let Ok(datagram) = seqpacket::receive(self.far.as_fd(), &mut bytes)
            && datagram.len > 0
        {
            heard.extend(&bytes[..datagram.len]);
        }
        heard
    }

    fn say(&self, bytes: &[u8]) -> usize {
        seqpacket::send_some(self.far.as_fd(), bytes, &[]).unwrap()
    }

    /// Gives the guest's next buffer, of `len` bytes at `addr`.
    fn offer(&mut self, addr: u64, len: u32) {
        self.drivers[RECEIVE].add(&[Segment::write(addr, len)]).unwrap();
    }

    fn received(&mut self, addr: u64) -> Option<Vec<u8>> {
        let Used { written, .. } = self.drivers[RECEIVE].poll()?;
        Some(self.get(addr, written))
    }
}

#[test]
fn the_size_is_in_the_configuration_space() {
    let identity = identity(80, 25);
    assert_eq!(identity.config, [80, 0, 25, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(identity.features, F_SIZE);
}

#[test]
fn output_goes_out_in_order_and_is_given_back() {
    let mut rig = Rig::new();
    let ids = [rig.print(0x8000, b"hello "), rig.print(0x9000, b"world\n")];
    rig.settle();
    assert_eq!(rig.hear(), b"hello world\n");
    for id in ids {
        assert_eq!(rig.drivers[TRANSMIT].poll(), Some(Used { id, written: 0 }));
    }
}

#[test]
fn input_fills_the_buffers_that_are_there_and_the_rest_waits_in_the_stream() {
    let mut rig = Rig::new();
    rig.say(b"abcdefgh");
    rig.settle();
    assert!(rig.received(0x8000).is_none(), "no buffer, no input");
    rig.offer(0x8000, 3);
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b"abc");
    rig.offer(0x8000, 100);
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b"defgh");
    rig.offer(0x8000, 100);
    rig.settle();
    rig.say(b"more");
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b"more");
}

#[test]
fn a_death_loses_no_input() {
    let mut rig = Rig::new();
    rig.say(b"typed ahead");
    rig.settle();
    rig.begin();
    rig.settle();
    rig.offer(0x8000, 5);
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b"typed");
    rig.begin();
    rig.offer(0x8000, 100);
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b" ahead");
}

#[test]
fn a_death_before_the_guest_was_shown_its_input_delivers_it_again() {
    let mut rig = Rig::new();
    rig.offer(0x8000, 100);
    rig.say(b"once");
    let mut events = Vec::new();
    rig.poller.wait(Some(std::time::Duration::ZERO), &mut events).unwrap();
    rig.device.event(&rig.poller, events[0]).unwrap();
    assert!(rig.device.serve(&mut rig.queues).unwrap(), "delivered, and not flushed");
    rig.begin();
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b"once");
    assert!(rig.received(0x8000).is_none());
}

#[test]
fn a_full_stream_holds_output_back_and_a_death_loses_none_of_it() {
    let mut rig = Rig::new();
    let text: Vec<u8> = (0..600_000u32).map(|at| (at / 100) as u8).collect();
    for at in 0..20u64 {
        let piece = &text[30_000 * at as usize..][..30_000];
        rig.print(0x10000 + 30_000 * at, piece);
    }
    let mut heard = Vec::new();
    for round in 0..100 {
        rig.settle();
        let answered = std::iter::from_fn(|| rig.drivers[TRANSMIT].poll()).count();
        assert!(answered < 20 || round > 0, "a socket holds less than all of it");
        if rig.drivers[TRANSMIT].in_flight() == 0 {
            break;
        }
        heard.extend(rig.hear());
    }
    heard.extend(rig.hear());
    assert_eq!(heard, text, "without a death nothing is repeated");

    // Whole blocks, so that a repetition begins at a block.
    for at in 0..20u64 {
        rig.print(0x10000 + 30_000 * at, &vec![b'a' + at as u8; 30_000]);
    }
    rig.settle();
    let mut heard = rig.hear();
    rig.begin();
    while rig.drivers[TRANSMIT].in_flight() > 0 {
        rig.settle();
        heard.extend(rig.hear());
        while rig.drivers[TRANSMIT].poll().is_some() {}
    }
    heard.extend(rig.hear());
    for letter in b'a'..=b't' {
        let count = heard.iter().filter(|byte| **byte == letter).count();
        assert!(count >= 30_000, "{} of {}", count, letter as char);
    }
    heard.dedup();
    assert_eq!(heard, b"abcdefghijklmnopqrst", "in order");
}

#[test]
fn a_stopped_queue_keeps_what_is_not_sent() {
    let mut rig = Rig::new();
    for at in 0..20u64 {
        rig.print(0x10000 + 20_000 * at, &[b'x'; 20_000]);
    }
    rig.settle();
    while rig.drivers[TRANSMIT].poll().is_some() {}
    let left = rig.drivers[TRANSMIT].in_flight();
    let queue = rig.queues[TRANSMIT].as_mut().unwrap();
    assert!(left > 0 && queue.in_flight() == 1);
    rig.device.stop(queue);
    assert_eq!(queue.in_flight(), 0);
    rig.hear();
    rig.begin();
    while rig.drivers[TRANSMIT].in_flight() > 0 {
        rig.settle();
        rig.hear();
        while rig.drivers[TRANSMIT].poll().is_some() {}
    }
}

#[test]
fn an_end_with_input_left_delivers_it_when_the_guest_wants_it_and_sleeps_until_then() {
    let mut rig = Rig::new();
    rig.say(b"last words");
    let (far, _) = seqpacket::stream_pair().unwrap();
    drop(std::mem::replace(&mut rig.far, far));
    rig.settle();
    rig.offer(0x8000, 100);
    rig.settle();
    assert_eq!(rig.received(0x8000).unwrap(), b"last words");
}

#[test]
fn output_goes_on_after_the_end_of_input() {
    let mut rig = Rig::new();
    std::os::unix::net::UnixStream::from(rig.far.try_clone().unwrap())
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    rig.settle();
    for at in 0..20u64 {
        rig.print(0x10000 + 30_000 * at, &[b'x'; 30_000]);
    }
    let mut heard = 0;
    while rig.drivers[TRANSMIT].in_flight() > 0 {
        rig.settle();
        heard += rig.hear().len();
        while rig.drivers[TRANSMIT].poll().is_some() {}
    }
    assert_eq!(heard + rig.hear().len(), 600_000);
}

#[test]
fn a_pulled_cable_swallows_output_and_lets_the_process_sleep() {
    let mut rig = Rig::new();
    let (far, _) = seqpacket::stream_pair().unwrap();
    drop(std::mem::replace(&mut rig.far, far));
    rig.offer(0x8000, 100);
    rig.print(0x9000, b"into the void");
    rig.settle();
    assert!(rig.drivers[TRANSMIT].poll().is_some());
    assert!(rig.received(0x8000).is_none());
}
