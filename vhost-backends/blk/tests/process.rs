//! The whole device between a frontend of another make, a supervisor, and a block layer.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use bulkhead_harness::frontend::{Cut, Layout, Options, Request, Sharing};
use bulkhead_memory::WrittenPages;
use bulkhead_protocol::device::DeviceEvent;
use bulkhead_protocol::start::FromHelper;

mod rig;

use rig::{LONG, Supervisor, wait};

fn options(queues: u16, depth: u16) -> Options {
    Options { timeout: LONG, ..Options::new(queues, depth) }
}

fn block(seed: u8) -> [u8; 4096] {
    std::array::from_fn(|at| seed ^ (at as u8).wrapping_mul(31))
}

#[test]
fn blocks_come_back_as_they_went_by_any_layout_feature_and_sharing() {
    let layouts = [
        Layout::PLAIN,
        Layout::INDIRECT,
        Layout::MERGED,
        Layout::every(100),
        Layout { cut: Cut::Every(64), indirect: true },
        Layout { cut: Cut::At { out: vec![3, 13, 1, 511], input: vec![1, 4094] }, indirect: false },
    ];
    for (event_idx, sharing) in
        [(true, Sharing::Table), (false, Sharing::TableOfMany), (true, Sharing::Slots)]
    {
        let supervisor = Supervisor::start(1);
        let (_frontend, mut queues) =
            supervisor.frontend(Options { event_idx, sharing, ..options(1, 8) });
        for (seed, layout) in (0u8..).zip(&layouts) {
            let (queue, sector) = (&mut queues[0], u64::from(seed) * 8);
            queue.submit(Request::Write { sector, data: &block(seed) }, layout).unwrap();
            queue.kick();
            assert!(wait(queue).is_ok());
            queue.submit(Request::Read { sector, len: 4096 }, layout).unwrap();
            queue.kick();
            let done = wait(queue);
            let mut back = [0; 4096];
            queue.read_data(done.slot, &mut back).unwrap();
            assert!(done.is_ok() && back == block(seed), "{layout:?}");
            assert_eq!(done.written, 4097);
        }
    }
}

/// Pages of the shared memory, counted from its first: see [`bulkhead_harness::frontend::Frontend::guest_base`].
fn marks(log: &WrittenPages, base: u64) -> Vec<u64> {
    let page = |word: u64, bit: u64| (64 * word + bit).wrapping_sub(base / 4096);
    let of_word = |word| (word, log.take(word));
    let words = (0..log.words()).map(of_word);
    words
        .flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| page(word, bit))
        })
        .collect()
}

#[test]
fn what_it_writes_is_logged_for_as_long_as_that_is_wanted() {
    const USED: u64 = 2;
    const DATA: u64 = 4;
    const STATUS: u64 = 5;
    let supervisor = Supervisor::start(1);
    let (mut frontend, mut queues) = supervisor.frontend(options(1, 1));
    let queue = &mut queues[0];
    let mut exchange = |request: Request<'_>| {
        queue.submit(request, &Layout::PLAIN).unwrap();
        queue.kick();
        assert!(wait(queue).is_ok());
    };
    exchange(Request::Write { sector: 0, data: &block(1) });
    let log = frontend.log_writes().unwrap();
    let base = frontend.guest_base();
    exchange(Request::Read { sector: 0, len: 4096 });
    let mut pages = marks(&log, base);
    assert!(pages.contains(&DATA) && pages.contains(&STATUS), "{pages:?}");
    // The used ring's own mark comes behind the index that was waited for.
    while !pages.contains(&USED) {
        std::thread::yield_now();
        pages.extend(marks(&log, base));
    }
    assert!(pages.iter().all(|page| [USED, DATA, STATUS].contains(page)), "{pages:?}");
    exchange(Request::Write { sector: 0, data: &block(2) });
    let pages = marks(&log, base);
    assert!(pages.contains(&STATUS) && !pages.contains(&DATA), "{pages:?}");
    frontend.stop_logging().unwrap();
    exchange(Request::Read { sector: 0, len: 4096 });
    let pages = marks(&log, base);
    assert!(!pages.contains(&DATA) && !pages.contains(&STATUS), "{pages:?}");
}

/// Its predecessors' faults are forgotten when this is heard: it may not live until a heartbeat.
#[test]
fn the_first_request_is_told_unasked() {
    let supervisor = Supervisor::start(2);
    let (_frontend, mut queues) = supervisor.frontend(options(2, 16));
    for queue in &mut queues {
        queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
        queue.kick();
        assert!(wait(queue).is_ok());
    }
    assert!(matches!(supervisor.next(), FromHelper::Progressed));
}

#[test]
fn every_queue_is_served_by_its_own_thread() {
    let mut supervisor = Supervisor::start(3);
    let (mut frontend, mut queues) = supervisor.frontend(options(3, 16));
    for round in 0..20u8 {
        for (number, queue) in (0u64..).zip(&mut queues) {
            let sector = 1000 * number + 8 * u64::from(round);
            queue.submit(Request::Write { sector, data: &block(round) }, &Layout::PLAIN).unwrap();
            queue.kick();
        }
        queues.iter_mut().for_each(|queue| assert!(wait(queue).is_ok()));
    }
    assert_eq!(supervisor.beat(), 60, "the progress of all lanes");
    let bases = frontend.stop().unwrap();
    assert_eq!(bases, [20, 20, 20]);
    frontend.resume(&bases).unwrap();
    for queue in &mut queues {
        queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
        queue.kick();
        assert!(wait(queue).is_ok());
    }
}

/// With one queue: the threads of others would outlive a process that only ends in the test's eyes.
#[test]
fn a_successor_answers_what_its_predecessor_left() {
    let mut supervisor = Supervisor::start(1);
    let (mut frontend, mut queues) = supervisor.frontend(options(1, 16));
    let queue = &mut queues[0];
    for round in 0..20u8 {
        supervisor.storage.holds.store(true, Ordering::Relaxed);
        let before = supervisor.storage.taken.load(Ordering::Relaxed);
        for request in 0..4 {
            let (sector, data) = (8 * (4 * u64::from(round) + request), block(round));
            queue.submit(Request::Write { sector, data: &data }, &Layout::PLAIN).unwrap();
        }
        queue.kick();
        supervisor.await_taken(before + 4);
        supervisor.storage.holds.store(round % 2 == 0, Ordering::Relaxed);
        supervisor.restart();
        frontend.reconnect_over(supervisor.connect()).unwrap();
        supervisor.storage.holds.store(false, Ordering::Relaxed);
        (0..4).for_each(|_| assert!(wait(queue).is_ok()));
        assert_eq!(queue.outstanding(), 0);
    }
    let image = supervisor.storage.image.lock().unwrap();
    for (block_number, bytes) in image.chunks_exact(4096).take(80).enumerate() {
        assert_eq!(bytes, block(block_number as u8 / 4));
    }
}

#[test]
fn a_dead_block_layer_is_only_waited_for() {
    let mut supervisor = Supervisor::start(2);
    let (_frontend, mut queues) = supervisor.frontend(options(2, 32));
    for round in 0..10 {
        supervisor.storage.holds.store(true, Ordering::Relaxed);
        for queue in &mut queues {
            for sector in 0..8 {
                let request = Request::Read { sector: 8 * sector, len: 4096 };
                queue.submit(request, &Layout::INDIRECT).unwrap();
            }
            queue.kick();
        }
        supervisor.await_taken(if round == 0 { 16 } else { 1 });
        supervisor.restart_layer();
        supervisor.beat();
        supervisor.storage.holds.store(false, Ordering::Relaxed);
        for queue in &mut queues {
            (0..8).for_each(|_| assert!(wait(queue).is_ok()));
        }
    }
}

#[test]
fn a_stop_waits_for_the_block_layer_and_heartbeats_are_answered_meanwhile() {
    let mut supervisor = Supervisor::start(1);
    let (mut frontend, mut queues) = supervisor.frontend(options(1, 4));
    supervisor.storage.holds.store(true, Ordering::Relaxed);
    queues[0].submit(Request::Read { sector: 0, len: 512 }, &Layout::PLAIN).unwrap();
    queues[0].kick();
    supervisor.await_taken(1);
    let storage = supervisor.storage.clone();
    std::thread::scope(|threads| {
        let stop = threads.spawn(|| frontend.stop().unwrap());
        for _ in 0..20 {
            supervisor.beat();
            assert!(!stop.is_finished(), "a request is still out");
        }
        storage.holds.store(false, Ordering::Relaxed);
        assert_eq!(stop.join().unwrap(), [1]);
    });
    assert!(queues[0].poll().unwrap().is_some_and(|done| done.is_ok()), "answered before the stop");
}

#[test]
fn a_frontend_that_hangs_up_is_drained_and_the_next_one_is_served() {
    let mut supervisor = Supervisor::start(2);
    let (frontend, mut queues) = supervisor.frontend(options(2, 4));
    supervisor.storage.holds.store(true, Ordering::Relaxed);
    queues[1].submit(Request::Write { sector: 0, data: &block(7) }, &Layout::PLAIN).unwrap();
    queues[1].kick();
    supervisor.await_taken(1);
    drop(frontend);
    let early = supervisor.connect();
    (0..5).for_each(|_| {
        supervisor.beat();
    });
    supervisor.storage.holds.store(false, Ordering::Relaxed);
    assert_eq!(supervisor.event(), DeviceEvent::Disconnected);
    assert_eq!(supervisor.storage.image.lock().unwrap()[..4096], block(7));
    let over = bulkhead_harness::frontend::Frontend::over(early, "nowhere".as_ref(), options(2, 4));
    let (_frontend, mut queues) = over.unwrap();
    queues[0].submit(Request::GetId, &Layout::PLAIN).unwrap();
    queues[0].kick();
    let done = wait(&mut queues[0]);
    let mut id = [0; 20];
    queues[0].read_data(done.slot, &mut id).unwrap();
    assert_eq!(&id[..4], b"rig\0");
}

#[test]
fn a_broken_queue_is_told_and_costs_its_driver_alone() {
    let supervisor = Supervisor::start(2);
    let (mut frontend, mut queues) = supervisor.frontend(options(2, 16));
    queues[0].wreck().unwrap();
    let DeviceEvent::QueueBroken { queue: 0, reason } = supervisor.event() else { panic!() };
    assert_eq!(reason, "available index 129 after 0 in a queue of 128");
    queues[1].submit(Request::Flush, &Layout::PLAIN).unwrap();
    queues[1].kick();
    assert!(wait(&mut queues[1]).is_ok(), "the other queue goes on");
    // A driver that resets the device stops its queues; the next one begins anew.
    frontend.stop().unwrap();
    drop(frontend);
    assert_eq!(supervisor.event(), DeviceEvent::Disconnected);
    let (_frontend, mut queues) = supervisor.frontend(options(2, 16));
    queues[0].submit(Request::Flush, &Layout::PLAIN).unwrap();
    queues[0].kick();
    assert!(wait(&mut queues[0]).is_ok());
}

#[test]
fn half_a_message_stops_nothing() {
    let mut supervisor = Supervisor::start(1);
    let mut slow = supervisor.connect();
    slow.write_all(&[1, 0, 0, 0, 1]).unwrap();
    (0..5).for_each(|_| {
        supervisor.beat();
    });
    slow.write_all(&[0, 0, 0, 0, 0, 0, 0]).unwrap();
    slow.set_read_timeout(Some(LONG)).unwrap();
    let mut reply = [0; 20];
    slow.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [1, 0, 0, 0]);
    slow.write_all(&[1, 0]).unwrap();
    drop(slow);
    assert!(matches!(supervisor.event(), DeviceEvent::FrontendFault(_)));
    assert_eq!(supervisor.event(), DeviceEvent::Disconnected);
}

#[test]
fn thousands_of_damaged_conversations_cost_a_connection_each() {
    let mut supervisor = Supervisor::start(1);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut roll = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for conversation in 0..1000 {
        let stream = supervisor.connect();
        stream.set_nonblocking(true).unwrap();
        let bell = bulkhead_sys::eventfd::Doorbell::new().unwrap();
        for _ in 0..roll() % 12 {
            let size = [0, 8, 8, 20, 24, 32, 40, 40, 72, 140, 4097][(roll() % 11) as usize] as u32;
            let mut bytes = Vec::new();
            bytes.extend((roll() as u32 % 46).to_ne_bytes());
            bytes.extend((1 | (roll() as u32 & 8)).to_ne_bytes());
            bytes.extend(size.to_ne_bytes());
            bytes.extend(
                (0..size.min(4096)).map(|_| if roll() % 3 == 0 { roll() as u8 } else { 0 }),
            );
            let fds = vec![bell.as_fd(); [0, 0, 1, 1, 2, 33][(roll() % 6) as usize]];
            let _ = bulkhead_sys::seqpacket::send(stream.as_fd(), &bytes, &fds);
        }
        drop(stream);
        loop {
            match supervisor.event() {
                DeviceEvent::Disconnected => break,
                DeviceEvent::FrontendFault(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if conversation % 100 == 0 {
            supervisor.beat();
        }
    }
    assert!(descriptors() <= before + 2, "descriptors leak");
    let (_frontend, mut queues) = supervisor.frontend(options(1, 4));
    queues[0].submit(Request::Flush, &Layout::PLAIN).unwrap();
    queues[0].kick();
    assert!(wait(&mut queues[0]).is_ok());
}

#[test]
fn a_block_layer_that_lies_ends_the_process_with_a_record() {
    let mut supervisor = Supervisor::start(1);
    let (_frontend, mut queues) = supervisor.frontend(options(1, 4));
    supervisor.storage.holds.store(true, Ordering::Relaxed);
    queues[0].submit(Request::Flush, &Layout::PLAIN).unwrap();
    queues[0].kick();
    supervisor.await_taken(1);
    supervisor.lie();
    let record = supervisor.outcome().unwrap_err().to_string();
    assert!(record.contains("the service behind this device"), "{record}");
}
