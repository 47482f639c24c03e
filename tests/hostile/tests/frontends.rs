//! Scripted frontends against the kit of the device processes: a frontend that breaks the protocol is
//! named and dropped, one that asks for the impossible is refused, and the process serves the next.

use std::sync::Mutex;

use bulkhead_hostile::footprint::Footprint;
use bulkhead_hostile::patter::{self, Word};
use bulkhead_hostile::stage::{Curtain, Line, Prop, RAM, Stage};
use bulkhead_protocol::device::DeviceEvent;
use bulkhead_virtqueue::RingAddresses;

/// Descriptors are counted for the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

const MEBIBYTE: u64 = 1 << 20;
const SIZE: u16 = 8;
const RINGS: RingAddresses = RingAddresses { descriptors: 0x1000, driver: 0x2000, device: 0x3000 };

fn lines(words: &[Word]) -> Vec<Line> {
    words.iter().map(|word| word.line(false)).collect()
}

fn play(lines: &[Line]) -> Curtain {
    let curtain = Stage::default().play(lines);
    assert!(curtain.outcome.is_ok(), "{:?}", curtain.outcome);
    assert_eq!(curtain.events.last(), Some(&DeviceEvent::Disconnected), "{:?}", curtain.events);
    curtain
}

/// Why the frontend was dropped, if it was.
fn fault(lines: &[Line]) -> Option<String> {
    play(lines).events.into_iter().find_map(|event| match event {
        DeviceEvent::FrontendFault(reason) => Some(reason),
        _ => None,
    })
}

/// Everything that can be said before a queue runs.
fn vocabulary() -> Vec<Word> {
    let mut words = patter::start(patter::SPLIT, SIZE, RINGS, true);
    words.extend([Word::ResetOwner, Word::AskQueues, Word::AskSlots, Word::AddRegion]);
    words.extend([Word::Error(0), Word::Requests, Word::AskTable, Word::Stop(0)]);
    words
}

#[test]
fn an_honest_frontend_is_dropped_for_nothing() {
    let _turn = TURN.lock();
    for features in [patter::SPLIT, patter::PACKED] {
        let mut words = patter::start(features, SIZE, RINGS, true);
        words.extend([Word::Stop(0), Word::AskQueues, Word::AskSlots, Word::AddRegion]);
        words.extend([Word::RemoveRegion, Word::Requests, Word::AskConfig(60), Word::Config]);
        words.extend([Word::AskTable, Word::ResetOwner]);
        assert_eq!(fault(&lines(&words)), None, "{features:#x}");
    }
}

#[test]
fn every_message_spoilt_in_every_way_is_a_fault() {
    let _turn = TURN.lock();
    type Spoil = fn(&mut Line);
    let spoil: [(&str, Spoil); 9] = [
        ("flags", |line| line.bytes[4] = 2),
        ("flags", |line| line.bytes[4] |= 1 << 2),
        ("a message of", |line| line.bytes[8..12].copy_from_slice(&u32::MAX.to_ne_bytes())),
        ("a message of", |line| line.bytes[8..12].copy_from_slice(&4097u32.to_ne_bytes())),
        ("not understood", |line| line.bytes[0] = 0),
        ("not understood", |line| line.bytes[0] = 200),
        ("in the middle of a message", |line| line.bytes.truncate(7)),
        ("descriptors", |line| line.props.extend([Prop::Bell; 2])),
        ("descriptors", |line| line.props.extend([Prop::Bell; 60])),
    ];
    let before = Footprint::now();
    for word in vocabulary() {
        for (text, spoil) in spoil {
            let mut script = lines(&[Word::Owner, Word::Protocol, Word::Features(patter::SPLIT)]);
            let mut line = word.line(false);
            spoil(&mut line);
            script.push(line);
            let reason = fault(&script);
            let named = reason.as_ref().is_some_and(|reason| reason.contains(text));
            assert!(named, "{word:?}: {text:?} is not in {reason:?}");
        }
    }
    before.assert_unchanged(MEBIBYTE);
}

#[test]
fn bodies_of_another_length_and_missing_descriptors_are_faults() {
    let _turn = TURN.lock();
    for word in vocabulary() {
        let resized = |by: i32| {
            let mut line = word.line(false);
            let body = (line.bytes.len() as i32 - 12 + by) as u32;
            line.bytes[8..12].copy_from_slice(&body.to_ne_bytes());
            line.bytes.resize(12 + body as usize, 0);
            line
        };
        let mut wrong = Vec::new();
        // What this message carries is its descriptor; nobody looks at a body.
        if word != Word::Requests {
            wrong.push(resized(1));
        }
        if word.line(false).bytes.len() > 12 {
            wrong.push(resized(-1));
        }
        let bare = Line { props: Vec::new(), ..word.line(false) };
        wrong.extend((bare != word.line(false)).then_some(bare));
        for line in wrong {
            let reason = fault(std::slice::from_ref(&line));
            assert!(reason.is_some(), "{word:?} as {line:?}");
        }
    }
}

#[test]
fn what_is_impossible_is_refused_and_never_served() {
    let _turn = TURN.lock();
    let start = |rings, size| patter::start(patter::SPLIT, size, rings, false);
    let outside = |at| RingAddresses { descriptors: at, driver: at, device: at };
    let impossible = [
        start(RINGS, 0),
        start(RINGS, 129),
        start(RINGS, 7),
        start(outside(RAM), SIZE),
        start(outside(RAM - 16), SIZE),
        start(outside(0x0fff_ffff_ffff_0000), SIZE),
        vec![Word::Kick(0)],
        vec![Word::Size(2, SIZE)],
        vec![Word::Kick(2)],
        vec![Word::Stop(255)],
        vec![Word::Enable(7, true)],
        vec![Word::Features(1 << 60)],
        vec![Word::RemoveRegion],
        vec![Word::AddRegion, Word::AddRegion],
        [start(RINGS, SIZE), vec![Word::Size(0, 16)]].concat(),
        [start(RINGS, SIZE), vec![Word::Base(0, 3)]].concat(),
        [start(RINGS, SIZE), vec![Word::Place(0, outside(0x4000))]].concat(),
        [start(RINGS, SIZE), vec![Word::Features(patter::PACKED)]].concat(),
        [start(RINGS, SIZE), vec![Word::Table]].concat(),
        [start(RINGS, SIZE), vec![Word::AskTable]].concat(),
    ];
    for words in impossible {
        assert!(fault(&lines(&words)).is_some(), "{words:?} was taken");
        if matches!(words.last(), Some(Word::Stop(_) | Word::AskTable)) {
            // A question has no other answer to be refused by.
            continue;
        }
        let acknowledged: Vec<Line> = words.iter().map(|word| word.line(true)).collect();
        let protocol = vec![Word::Protocol.line(false)];
        let polite = fault(&[protocol, acknowledged].concat());
        assert_eq!(polite, None, "{words:?}: who wants an acknowledgement is told no");
    }
}

#[test]
fn a_frontend_that_never_reads_its_replies_is_dropped() {
    let _turn = TURN.lock();
    let mut question = Word::AskConfig(256).line(false);
    question.bytes.truncate(24);
    question.bytes[8..12].copy_from_slice(&12u32.to_ne_bytes());
    let reason = fault(&vec![question; 1000]);
    assert!(reason.is_some_and(|reason| reason.contains("does not read")));
}

#[test]
fn a_thousand_frontends_full_of_descriptors_leave_nothing() {
    let _turn = TURN.lock();
    let stage = Stage::default();
    let flood = Line { props: vec![Prop::Memory; 64], ..Word::Memory.line(false) };
    stage.play(std::slice::from_ref(&flood));
    let before = Footprint::now();
    for _ in 0..1000 {
        let curtain = stage.play(std::slice::from_ref(&flood));
        assert!(matches!(
            curtain.events[..],
            [DeviceEvent::FrontendFault(_), DeviceEvent::Disconnected]
        ));
    }
    before.assert_unchanged(MEBIBYTE);
}

#[test]
fn doorbells_that_are_none_wake_nobody_for_ever() {
    let _turn = TURN.lock();
    for prop in [Prop::Memory, Prop::Socket, Prop::Table] {
        let mut script = lines(&patter::start(patter::SPLIT, SIZE, RINGS, true));
        for line in script.iter_mut().filter(|line| line.props == [Prop::Bell]) {
            line.props = vec![prop];
        }
        // Refused or ignored; play asserts that the process neither ends nor spins.
        play(&script);
    }
}
