//! Scripted backends against core's frontend: a lie ends in a fault that names it, at once or at the
//! deadline, and leaves neither descriptors nor memory behind.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bulkhead_hostile::footprint::Footprint;
use bulkhead_hostile::puppet::{self, Heard, Puppet, REPLY, Whose, message};
use bulkhead_vhost_frontend::{Event, Fault, Frontend};
use vhost::vhost_user::message::FrontendReq;

/// Descriptors are counted for the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// What core may have grown by (SECURITY.md, S9).
const MEBIBYTE: u64 = 1 << 20;

/// How a reply is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoilt {
    Silence,
    HangUp,
    HalfHeader,
    HalfBody,
    OtherRequest,
    NoReplyFlag,
    OtherVersion,
    UnknownFlag,
    NoBody,
    BodyTooShort,
    BodyTooLong,
    FourGibibytes,
    SurplusDescriptor,
    ThirtyTwoDescriptors,
    Twice,
}

const EVERY_WAY: [Spoilt; 15] = [
    Spoilt::Silence,
    Spoilt::HangUp,
    Spoilt::HalfHeader,
    Spoilt::HalfBody,
    Spoilt::OtherRequest,
    Spoilt::NoReplyFlag,
    Spoilt::OtherVersion,
    Spoilt::UnknownFlag,
    Spoilt::NoBody,
    Spoilt::BodyTooShort,
    Spoilt::BodyTooLong,
    Spoilt::FourGibibytes,
    Spoilt::SurplusDescriptor,
    Spoilt::ThirtyTwoDescriptors,
    Spoilt::Twice,
];

/// Every question that core asks, and two orders that it wants acknowledged.
const EVERY_QUESTION: [FrontendReq; 8] = [
    FrontendReq::GET_FEATURES,
    FrontendReq::GET_PROTOCOL_FEATURES,
    FrontendReq::GET_QUEUE_NUM,
    FrontendReq::GET_CONFIG,
    FrontendReq::GET_INFLIGHT_FD,
    FrontendReq::GET_VRING_BASE,
    FrontendReq::SET_VRING_ADDR,
    FrontendReq::SET_MEM_TABLE,
];

/// Says the spoilt reply; `false`: hangs up instead.
fn say_spoilt(puppet: &mut Puppet, mut heard: Heard, spoilt: Spoilt) -> bool {
    let request = u32::from(heard.request);
    let fds = usize::from(heard.request == FrontendReq::GET_INFLIGHT_FD);
    let Some(body) = puppet.reply_to(&mut heard) else { return true };
    let whole = message(request, REPLY, &body);
    match spoilt {
        Spoilt::Silence => {}
        Spoilt::HangUp => return false,
        Spoilt::HalfHeader => puppet.say_raw(&whole[..6], fds),
        Spoilt::HalfBody => puppet.say_raw(&whole[..whole.len() - body.len() / 2], fds),
        Spoilt::OtherRequest => puppet.say(request + 1, REPLY, &body, fds),
        Spoilt::NoReplyFlag => puppet.say(request, 1, &body, fds),
        Spoilt::OtherVersion => puppet.say(request, 0b110, &body, fds),
        Spoilt::UnknownFlag => puppet.say(request, REPLY | 1 << 9, &body, fds),
        Spoilt::NoBody => puppet.say(request, REPLY, &[], fds),
        Spoilt::BodyTooShort => puppet.say(request, REPLY, &body[..body.len() - 1], fds),
        Spoilt::BodyTooLong => puppet.say(request, REPLY, &[&body[..], &[0]].concat(), fds),
        Spoilt::FourGibibytes => {
            let header = [request, REPLY, u32::MAX].map(u32::to_ne_bytes).concat();
            puppet.say_raw(&[header, body].concat(), fds);
        }
        Spoilt::SurplusDescriptor => puppet.say(request, REPLY, &body, fds + 1),
        Spoilt::ThirtyTwoDescriptors => puppet.say(request, REPLY, &body, 32),
        Spoilt::Twice => {
            puppet.say(request, REPLY, &body, fds);
            puppet.say(request, REPLY, &body, fds);
        }
    }
    true
}

/// The fault in which the first answer to `question` ends when it is spoilt like that, and whether it
/// took the deadline.
fn fault_of(question: FrontendReq, spoilt: Spoilt) -> (Fault, bool) {
    let mut now = Instant::now();
    let mut frontend = puppet::frontend(Whose::Own);
    let mut puppet = Some(Puppet::connect(&mut frontend, now));
    let (mut told, mut waited) = (false, false);
    // Kept, since a descriptor that is closed would be a hang-up.
    let mut unanswered = Vec::new();
    for _ in 0..100 {
        for event in puppet::events(&mut frontend, now) {
            match event {
                Event::Lost(loss) => return (loss.fault.expect("a fault"), waited),
                Event::Up(_) => frontend.start(puppet::activation(), now),
                Event::Serving => frontend.stop(now),
                other => panic!("{question:?} {spoilt:?}: {other:?}"),
            }
        }
        match puppet.as_mut().and_then(Puppet::hear) {
            Some(heard) if heard.request == question && !told => {
                told = true;
                let stays = say_spoilt(puppet.as_mut().expect("it has just heard"), heard, spoilt);
                puppet = puppet.filter(|_| stays);
            }
            Some(heard) if told => unanswered.push(heard),
            Some(mut heard) => answer(puppet.as_mut().expect("it has just heard"), &mut heard),
            None if told => {
                waited = true;
                now = frontend.deadline().unwrap_or(now);
            }
            None => {}
        }
    }
    panic!("{question:?} {spoilt:?}: no fault");
}

fn answer(puppet: &mut Puppet, heard: &mut Heard) {
    let fds = usize::from(heard.request == FrontendReq::GET_INFLIGHT_FD);
    if let Some(body) = puppet.reply_to(heard) {
        puppet.say(heard.request.into(), REPLY, &body, fds);
    }
}

fn fits(fault: &Fault, spoilt: Spoilt) -> bool {
    match spoilt {
        Spoilt::Silence | Spoilt::HalfHeader | Spoilt::HalfBody => {
            matches!(fault, Fault::Silent { .. })
        }
        Spoilt::HangUp => matches!(fault, Fault::HungUp),
        Spoilt::OtherRequest => matches!(fault, Fault::Unsolicited { .. }),
        Spoilt::NoReplyFlag
        | Spoilt::OtherVersion
        | Spoilt::UnknownFlag
        | Spoilt::FourGibibytes => matches!(fault, Fault::Header { .. }),
        Spoilt::NoBody | Spoilt::BodyTooShort => matches!(fault, Fault::Body { .. }),
        // A long configuration space with one byte more is longer than any message.
        Spoilt::BodyTooLong => matches!(fault, Fault::Body { .. } | Fault::Header { .. }),
        Spoilt::SurplusDescriptor | Spoilt::ThirtyTwoDescriptors => {
            matches!(fault, Fault::SurplusDescriptors(_))
        }
        // The repetition may bring a descriptor, or be about another queue than is asked next.
        Spoilt::Twice => {
            let surplus = matches!(fault, Fault::SurplusDescriptors(_) | Fault::Base { .. });
            surplus || matches!(fault, Fault::Unsolicited { .. })
        }
    }
}

#[test]
fn every_answer_spoilt_in_every_way_is_a_fault_that_says_how() {
    let _turn = TURN.lock();
    fault_of(FrontendReq::GET_FEATURES, Spoilt::Silence);
    let before = Footprint::now();
    for question in EVERY_QUESTION {
        for spoilt in EVERY_WAY {
            let (fault, waited) = fault_of(question, spoilt);
            assert!(fits(&fault, spoilt), "{question:?} {spoilt:?}: {fault}");
            assert_eq!(waited, matches!(fault, Fault::Silent { .. }), "{question:?} {spoilt:?}");
        }
    }
    before.assert_unchanged(MEBIBYTE);
}

/// A frontend with a backend that serves.
fn serving(now: Instant) -> (Frontend, Puppet) {
    let mut frontend = puppet::frontend(Whose::Own);
    let puppet = Puppet::serving(&mut frontend, now);
    (frontend, puppet)
}

fn only_fault(frontend: &mut Frontend, now: Instant) -> Option<Fault> {
    match puppet::events(frontend, now).pop() {
        Some(Event::Lost(loss)) => loss.fault,
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_a_backend_requests_but_a_change_of_configuration_is_a_fault() {
    let _turn = TURN.lock();
    let now = Instant::now();
    drop(serving(now));
    let before = Footprint::now();
    for request in (0..40).filter(|request| *request != 2) {
        for (len, fds) in [(0, 0), (8, 0), (40, 0), (40, 1)] {
            let (mut frontend, puppet) = serving(now);
            puppet.request_raw(&message(request, 1, &vec![0; len]), fds);
            match only_fault(&mut frontend, now) {
                Some(Fault::Request { request: named, .. }) => assert_eq!(named, request),
                Some(Fault::SurplusDescriptors(1)) if fds == 1 => {}
                other => panic!("request {request} of {len} bytes: {other:?}"),
            }
        }
    }
    before.assert_unchanged(MEBIBYTE);
}

#[test]
fn a_storm_of_changes_is_answered_or_cut_off_and_never_kept() {
    let _turn = TURN.lock();
    let now = Instant::now();
    let (mut frontend, puppet) = serving(now);
    let change = message(2, 1 | 1 << 3, &[]);
    let before = Footprint::now();
    let fault = (0..100_000).find_map(|_| {
        puppet.request_raw(&change.repeat(20), 0);
        only_fault(&mut frontend, now)
    });
    assert!(matches!(fault, Some(Fault::Flood)), "{fault:?}");
    drop(puppet);
    let after = Footprint::now();
    assert!(after.descriptors <= before.descriptors && after.resident < before.resident + MEBIBYTE);
}

#[test]
fn a_thousand_backends_that_send_32_descriptors_leave_nothing() {
    let _turn = TURN.lock();
    let now = Instant::now();
    let mut frontend = puppet::frontend(Whose::Own);
    let storm = |frontend: &mut Frontend| {
        let puppet = Puppet::connect(frontend, now);
        puppet.say(1, REPLY, &[0; 8], 32);
        let fault = only_fault(frontend, now);
        assert!(matches!(fault, Some(Fault::SurplusDescriptors(32))), "{fault:?}");
    };
    storm(&mut frontend);
    let before = Footprint::now();
    for _ in 0..1000 {
        storm(&mut frontend);
    }
    before.assert_unchanged(MEBIBYTE);
}

#[test]
fn a_byte_a_second_buys_no_time() {
    let _turn = TURN.lock();
    let start = Instant::now();
    let mut frontend = puppet::frontend(Whose::Own);
    let puppet = Puppet::connect(&mut frontend, start);
    assert!(puppet::events(&mut frontend, start).is_empty());
    let deadline = frontend.deadline().expect("an answer is due");
    let reply = message(1, REPLY, &puppet::FEATURES.to_ne_bytes());
    let mut now = start;
    for byte in reply {
        puppet.say_raw(&[byte], 0);
        now += Duration::from_secs(1);
        if now >= deadline {
            break;
        }
        assert!(puppet::events(&mut frontend, now).is_empty());
        assert_eq!(frontend.deadline(), Some(deadline));
    }
    assert!(matches!(only_fault(&mut frontend, deadline), Some(Fault::Silent { .. })));
}

#[test]
fn offers_that_cannot_be_are_refused_and_those_that_say_too_much_are_cut_down() {
    let _turn = TURN.lock();
    type Lie = fn(&mut Puppet);
    let refused: [(&str, Lie); 11] = [
        ("lacks VIRTIO_F_VERSION_1", |puppet| puppet.features &= !(1 << 32)),
        ("lacks VIRTIO_F_VERSION_1", |puppet| puppet.features = 0),
        ("lacks VHOST_USER_F_PROTOCOL_FEATURES", |puppet| puppet.features &= !(1 << 30)),
        ("lacks VHOST_USER_PROTOCOL_F_MQ", |puppet| puppet.protocol &= !1),
        ("lacks VHOST_USER_PROTOCOL_F_CONFIG", |puppet| puppet.protocol &= !(1 << 9)),
        ("lacks VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD", |puppet| puppet.protocol &= !(1 << 12)),
        ("has 0 queues", |puppet| puppet.queues = 0),
        ("has 1 queues", |puppet| puppet.queues = 1),
        ("lies about its queues", |puppet| puppet.queues = u64::MAX),
        ("lies about its queues", |puppet| puppet.config[34] = 0),
        ("lies about its queues", |puppet| puppet.config[35] = 0xff),
    ];
    let now = Instant::now();
    for (text, lie) in refused {
        let mut frontend = puppet::frontend(Whose::Own);
        let mut puppet = Puppet::connect(&mut frontend, now);
        lie(&mut puppet);
        let fault = (0..10).find_map(|_| {
            let fault = only_fault(&mut frontend, now);
            puppet.serve();
            fault
        });
        let fault = fault.expect(text).to_string();
        assert!(fault.starts_with(text), "{text}: {fault}");
    }
    let excessive: [Lie; 3] = [
        |puppet| puppet.features = u64::MAX,
        |puppet| puppet.protocol = u64::MAX,
        |puppet| puppet.config[..34].fill(0xff),
    ];
    for lie in excessive {
        let mut frontend = puppet::frontend(Whose::Own);
        let mut puppet = Puppet::connect(&mut frontend, now);
        lie(&mut puppet);
        let offer = puppet.shake_hands(&mut frontend, now);
        let most = bulkhead_virtio_transport::DeviceType::BLK.features;
        assert_eq!(offer.features & !most, 0);
    }
}
