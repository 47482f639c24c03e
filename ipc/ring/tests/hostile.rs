//! A peer that writes what it likes where it likes: it gets blamed or it spoils its own data, and
//! nothing else happens.
#![cfg(not(loom))]

mod entries;

use std::sync::atomic::Ordering;

use bulkhead_ring::{Armed, Client, Index, PeerFault, PushError, RingGeometry, Server, create};
use bulkhead_sys::mapping::{Rights, SharedMapping};
use entries::{Completion, Request};
use proptest::prelude::*;

const ENTRIES: u32 = 8;

/// Where the shared words are: what an attacker reads in `geometry.rs`.
const SUBMIT_TAIL: usize = 128;
const SUBMIT_HEAD: usize = 256;

struct Pair {
    client: Client<Request, Completion>,
    server: Server<Request, Completion>,
    evil: SharedMapping,
}

impl Pair {
    fn new() -> Self {
        let geometry = RingGeometry::new(ENTRIES, 8192).unwrap();
        let fd = create(geometry, 1).unwrap();
        let len = geometry.object_len() as usize;
        Self {
            client: Client::attach(&fd, geometry, 1).unwrap(),
            server: Server::attach(&fd, geometry, 1).unwrap(),
            evil: SharedMapping::map(&fd, len, Rights::ReadWrite).unwrap(),
        }
    }

    fn write(&self, offset: usize, value: u32) -> u32 {
        self.evil.atomic_u32(offset).unwrap().swap(value, Ordering::SeqCst)
    }
}

#[test]
fn a_tail_beyond_the_ring_is_blamed_and_nothing_is_taken() {
    let mut pair = Pair::new();
    for now in [ENTRIES + 1, 1000, u32::MAX] {
        pair.write(SUBMIT_TAIL, now);
        let fault = PeerFault { index: Index::Tail, seen: 0, now, most: ENTRIES };
        assert_eq!(pair.server.submit.pop(), Err(fault));
        assert_eq!(pair.server.submit.arm(), Err(fault));
    }
}

#[test]
fn a_tail_that_goes_back_is_blamed() {
    let mut pair = Pair::new();
    for id in 0..3 {
        pair.client.submit.push(Request::new(id, 0, 0)).unwrap();
    }
    let _awake = pair.client.submit.publish();
    for id in 0..3 {
        assert_eq!(pair.server.submit.pop().unwrap().unwrap().id, id);
    }
    pair.write(SUBMIT_TAIL, 2);
    let fault = PeerFault { index: Index::Tail, seen: 3, now: 2, most: ENTRIES };
    assert_eq!(pair.server.submit.pop(), Err(fault));
}

#[test]
fn a_head_that_passes_the_tail_or_goes_back_is_blamed() {
    let mut pair = Pair::new();
    let submit = &mut pair.client.submit;
    for id in 0..u64::from(ENTRIES) {
        submit.push(Request::new(id, 0, 0)).unwrap();
    }
    assert_eq!(submit.push(Request::new(99, 0, 0)), Err(PushError::Full));
    pair.write(SUBMIT_HEAD, 1);
    let fault = PeerFault { index: Index::Head, seen: 0, now: 1, most: 0 };
    let refused = pair.client.submit.push(Request::new(99, 0, 0));
    assert_eq!(refused, Err(PushError::Peer(fault)), "nothing was published, so nothing was taken");
    let _awake = pair.client.submit.publish();
    for now in [ENTRIES + 1, u32::MAX] {
        pair.write(SUBMIT_HEAD, now);
        let fault = PeerFault { index: Index::Head, seen: 0, now, most: ENTRIES };
        assert_eq!(pair.client.submit.room(), Err(fault));
    }
}

#[test]
fn a_fault_leaves_the_ring_as_it_was() {
    let mut pair = Pair::new();
    pair.client.submit.push(Request::new(5, 0, 0)).unwrap();
    let _awake = pair.client.submit.publish();
    let honest = pair.write(SUBMIT_TAIL, 77);
    assert!(pair.server.submit.pop().is_err());
    pair.write(SUBMIT_TAIL, honest);
    assert!(pair.server.submit.pop().unwrap().unwrap().is_whole());
    assert_eq!(pair.server.submit.arm(), Ok(Armed::Sleep));
}

#[test]
fn a_client_that_takes_no_completions_fills_only_its_own_ring() {
    let mut pair = Pair::new();
    for id in 0..u64::from(ENTRIES) {
        pair.server.complete.push(Completion::new(id)).unwrap();
    }
    let _awake = pair.server.complete.publish();
    assert_eq!(pair.server.complete.push(Completion::new(9)), Err(PushError::Full));
    assert_eq!(pair.client.complete.pop().unwrap(), Some(Completion::new(0)));
    pair.server.complete.push(Completion::new(9)).unwrap();
}

/// What happens next, and to whom.
#[derive(Debug, Clone)]
enum Act {
    /// The attacker writes a word in one of the lines of indices.
    Scribble(usize, u32),
    /// The attacker writes bytes anywhere.
    Smear(usize, u8),
    Push(u8),
    Publish,
    Pop(u8),
    Arm,
    Data(u64, u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let small = (0u32..40).prop_map(|n| n.wrapping_sub(12));
    let value = prop_oneof![4 => small, 1 => any::<u32>()];
    let act = prop_oneof![
        3 => (0usize..10, value).prop_map(|(line, value)| Act::Scribble(line * 128, value)),
        1 => (0usize..12000, any::<u8>()).prop_map(|(at, byte)| Act::Smear(at, byte)),
        3 => (1u8..20).prop_map(Act::Push),
        2 => Just(Act::Publish),
        3 => (1u8..20).prop_map(Act::Pop),
        1 => Just(Act::Arm),
        1 => (any::<u64>(), 0..10_000u64).prop_map(|(at, len)| Act::Data(at % 10_000, len)),
    ];
    prop::collection::vec(act, 1..100)
}

/// Whatever is taken names its data by an allegation; the arena judges it.
fn judge(pair: &Pair, request: Request) {
    if let Ok(slice) = pair.server.arena.check(request.offset, request.len) {
        assert!(slice.mapping().check(slice.offset(), slice.len()).is_ok());
    }
}

fn run(pair: &mut Pair, act: Act) -> Result<(), PushError> {
    match act {
        Act::Scribble(at, value) => {
            pair.write(at, value);
        }
        Act::Smear(at, byte) => {
            let _outside = pair.evil.copy_out(at, &[byte; 7]);
        }
        Act::Push(count) => {
            for id in 0..u64::from(count) {
                assert!(pair.server.complete.room()? <= ENTRIES);
                pair.server.complete.push(Completion::new(id))?;
                pair.client.submit.push(Request::new(id, id * 1000, 512))?;
            }
        }
        Act::Publish => {
            let _rung = (pair.server.complete.publish(), pair.client.submit.publish());
        }
        Act::Pop(count) => {
            for _ in 0..count {
                if let Some(request) = pair.server.submit.pop()? {
                    judge(pair, request);
                }
                pair.client.complete.pop()?;
            }
        }
        Act::Arm => {
            let _slept = (pair.server.submit.arm()?, pair.client.complete.arm()?);
            pair.server.submit.disarm();
        }
        Act::Data(offset, len) => judge(pair, Request::new(0, offset, len)),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whatever_a_peer_writes_the_ring_blames_it_or_stays_within_bounds(acts in acts()) {
        let mut pair = Pair::new();
        for act in acts {
            // Faults are remembered by nobody: an end that goes on after one must be as safe.
            let _blamed = run(&mut pair, act);
        }
    }

    #[test]
    fn an_index_is_believed_exactly_if_an_honest_peer_could_have_written_it(
        taken in 0u32..30, waiting in 0u32..=ENTRIES, far in any::<Option<u32>>(), near in 0u32..40,
    ) {
        let mut pair = Pair::new();
        for id in 0..taken + waiting {
            pair.client.submit.push(Request::new(id.into(), 0, 0)).unwrap();
            let _awake = pair.client.submit.publish();
            if id < taken {
                prop_assert!(pair.server.submit.pop().unwrap().unwrap().is_whole());
            }
        }
        let lie = far.unwrap_or((taken + near).wrapping_sub(16));
        pair.write(SUBMIT_TAIL, lie);
        prop_assert_eq!(pair.server.submit.ready().is_ok(), lie.wrapping_sub(taken) <= ENTRIES);
    }
}
