use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// One step of either side.
#[derive(Debug, Clone)]
enum Step {
    Add { reads: Vec<u32>, writes: Vec<u32>, indirect: bool },
    Serve,
    GiveBack { which: prop::sample::Index, written: u32 },
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || prop::collection::vec(0u32..5000, 0..4);
    prop_oneof![
        3 => (lens(), lens(), any::<bool>())
            .prop_map(|(reads, writes, indirect)| Step::Add { reads, writes, indirect }),
        3 => Just(Step::Serve),
        3 => (any::<prop::sample::Index>(), any::<u32>())
            .prop_map(|(which, written)| Step::GiveBack { which, written }),
        2 => Just(Step::Poll),
    ]
}

fn segments(reads: &[u32], writes: &[u32]) -> Vec<Segment> {
    let read = reads.iter().map(|len| Segment::read(DATA + u64::from(*len), *len));
    read.chain(writes.iter().map(|len| Segment::write(DATA + 2 * u64::from(*len), *len))).collect()
}

/// Runs the steps on both ends and checks that every request arrives once, as it was, in order, and
/// that its answer does.
fn run(size: u16, event_idx: bool, packed: bool, steps: &[Step]) {
    let (memory, _fd) = ram(RAM);
    let mut pair = Pair::new(&memory, setup(size, event_idx), packed);
    let mut added = VecDeque::new();
    let mut held: Vec<Chain> = Vec::new();
    let mut answered = VecDeque::new();
    let mut tables = (0..).map(|number| DATA + 0x20000 + 256 * (number % 512));
    for step in steps {
        match step {
            Step::Add { reads, writes, indirect } => {
                let segments = segments(reads, writes);
                let id = match indirect {
                    true => pair.add_indirect(&segments, tables.next().unwrap()),
                    false => pair.add(&segments),
                };
                if let Some(id) = id {
                    added.push_back((id, segments));
                }
            }
            Step::Serve => {
                let mut chain = Chain::default();
                let took = pair.take(&memory, &mut chain).unwrap();
                assert_eq!(took, !added.is_empty());
                if let Some((id, segments)) = added.pop_front() {
                    assert_eq!(chain.id(), id);
                    assert_is(&chain, &segments);
                    held.push(chain);
                }
            }
            Step::GiveBack { which, written } if !held.is_empty() => {
                let chain = held.swap_remove(which.index(held.len()));
                pair.give_back(&chain, *written);
                answered.push_back(Used { id: chain.id(), written: *written });
            }
            Step::GiveBack { .. } => {}
            Step::Poll => assert_eq!(pair.poll(), answered.pop_front()),
        }
        let places: u16 = held.iter().map(Chain::slots).sum();
        assert_eq!(pair.in_flight(), places);
    }
}

proptest! {
    #[test]
    fn every_request_arrives_once_and_whole(
        size in prop::sample::select(vec![1u16, 2, 4, 16, 64]),
        event_idx: bool,
        steps in prop::collection::vec(step(), 0..300),
    ) {
        run(size, event_idx, false, &steps);
        run(size, event_idx, true, &steps);
    }

    #[test]
    fn a_packed_ring_of_odd_size_wraps_like_any_other(
        size in 1u16..40,
        steps in prop::collection::vec(step(), 0..300),
    ) {
        run(size, true, true, &steps);
    }

    /// The device sleeps only after asking for kicks, the driver only after asking for calls; then
    /// neither can wait for the other for ever.
    #[test]
    fn whoever_sleeps_is_woken(
        packed: bool,
        event_idx: bool,
        size in prop::sample::select(vec![2u16, 8]),
        steps in prop::collection::vec(0u8..5, 0..400),
    ) {
        let (memory, _fd) = ram(RAM);
        let mut pair = Pair::new(&memory, setup(size, event_idx), packed);
        let (mut device_sleeps, mut driver_sleeps) = (false, false);
        let mut held = VecDeque::new();
        for step in steps {
            match step {
                0 if !driver_sleeps => {
                    if pair.add(&[Segment::read(DATA, 1)]).is_some() && pair.wants_kick() {
                        device_sleeps = false;
                    } else if device_sleeps {
                        // Nothing was added, or the device was to be kicked.
                        let mut chain = Chain::default();
                        prop_assert!(!pair.take(&memory, &mut chain).unwrap());
                    }
                }
                1 if !device_sleeps => {
                    pair.forgo_kicks();
                    let mut chain = Chain::default();
                    if pair.take(&memory, &mut chain).unwrap() {
                        held.push_back(chain);
                    }
                }
                2 if !device_sleeps => {
                    if let Some(chain) = held.pop_front() {
                        pair.give_back(&chain, 0);
                        if pair.wants_call() {
                            driver_sleeps = false;
                        } else if driver_sleeps {
                            prop_assert!(pair.poll().is_none(), "a sleeping driver was not called");
                        }
                    }
                }
                3 if !device_sleeps => device_sleeps = !pair.want_kicks(),
                4 if !driver_sleeps => {
                    while pair.poll().is_some() {}
                    driver_sleeps = !pair.want_calls();
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_busy_device_is_not_kicked() {
    for (packed, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        let (memory, _fd) = ram(RAM);
        let mut pair = Pair::new(&memory, setup(8, event_idx), packed);
        assert!(!pair.want_kicks());
        pair.add(&[Segment::read(DATA, 1)]).unwrap();
        assert!(pair.wants_kick(), "packed {packed}, event index {event_idx}");
        pair.forgo_kicks();
        pair.add(&[Segment::read(DATA, 1)]).unwrap();
        assert!(!pair.wants_kick(), "packed {packed}, event index {event_idx}");
        assert!(pair.want_kicks(), "what came meanwhile must be seen");
    }
}

#[test]
fn a_busy_driver_is_not_called() {
    for (packed, event_idx) in [(false, true), (true, true)] {
        let (memory, _fd) = ram(RAM);
        let mut pair = Pair::new(&memory, setup(8, event_idx), packed);
        let mut chain = Chain::default();
        assert!(!pair.want_calls());
        for called in [true, false, false] {
            pair.add(&[Segment::read(DATA, 1)]).unwrap();
            assert!(pair.take(&memory, &mut chain).unwrap());
            pair.give_back(&chain, 0);
            assert_eq!(pair.wants_call(), called, "packed {packed}");
            assert!(!pair.wants_call(), "one call for one batch");
        }
        while pair.poll().is_some() {}
        assert!(!pair.want_calls());
    }
}

#[test]
fn bytes_are_found_by_their_offset_however_they_are_cut() {
    let (memory, _fd) = ram(RAM);
    let mut pair = Pair::new(&memory, setup(64, false), false);
    let cuts: Vec<Segment> = (0..16).map(|at| Segment::read(DATA + 8 * at, 1)).collect();
    let tail = [Segment::write(DATA + 0x1000, 3), Segment::write(DATA + 0x2000, 4)];
    for (at, segment) in cuts.iter().enumerate() {
        let slice = memory.check(bulkhead_memory::GuestRange::new(segment.addr, 1)).unwrap();
        slice.copy_out(&[at as u8]).unwrap();
    }
    pair.add(&[&cuts[..], &tail].concat()).unwrap();
    let mut chain = Chain::default();
    assert!(pair.take(&memory, &mut chain).unwrap());
    let mut header = [0; 12];
    chain.readable.copy_in(&memory, 4, &mut header).unwrap();
    assert_eq!(header, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert!(chain.readable.copy_in(&memory, 5, &mut header).is_err());
    chain.writable.copy_out(&memory, 1, b"abcdef").unwrap();
    let mut back = [0; 4];
    let second = bulkhead_memory::GuestRange::new(DATA + 0x2000, 4);
    memory.check(second).unwrap().copy_in(&mut back).unwrap();
    assert_eq!(&back, b"cdef");
    assert!(chain.writable.copy_out(&memory, 7, b"x").is_err());
}

#[test]
fn a_chain_gives_back_the_room_of_an_unusually_long_request() {
    let (memory, _fd) = ram(RAM);
    let mut pair = Pair::new(&memory, setup(8, false), false);
    let long = vec![Segment::read(DATA, 1); 1024];
    pair.add_indirect(&long, DATA + 0x20000).unwrap();
    let mut chain = Chain::default();
    assert!(pair.take(&memory, &mut chain).unwrap());
    assert_eq!(chain.readable.len(), 1024);
    chain.clear();
    assert!(chain.table.capacity() <= 256);
}
