//! The frontend against a puppet: a backend that does what each test tells it to, in the same thread.

mod lies;
mod puppet;
mod recovery;

use std::time::{Duration, Instant};

use vhost::vhost_user::message::FrontendReq;

use super::*;
use crate::handshake::LOG_ALL;
use puppet::{Puppet, activation, frontend, logging_frontend, own_frontend, up};

fn events(frontend: &mut Frontend, now: Instant) -> Vec<Event> {
    std::iter::from_fn(|| frontend.advance(now)).collect()
}

#[test]
fn an_honest_backend_is_up_after_three_rounds() {
    let now = Instant::now();
    let mut frontend = frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    let offer = up(&mut frontend, &mut puppet, now);
    assert_eq!(offer.features, 1 << 32 | 1 << 29 | 1 << 9 | 1 << 12);
    assert_eq!(offer.config[34..36], 2u16.to_le_bytes(), "the plan's number of queues");
}

#[test]
fn start_hands_over_memory_and_queues_and_waits_for_every_acknowledgement() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    assert!(events(&mut frontend, now).is_empty());
    assert_eq!(puppet.serve_one(), FrontendReq::GET_INFLIGHT_FD);
    assert!(events(&mut frontend, now).is_empty());
    let told = puppet.serve_until_quiet();
    let per_queue = [
        FrontendReq::SET_VRING_NUM,
        FrontendReq::SET_VRING_BASE,
        FrontendReq::SET_VRING_ADDR,
        FrontendReq::SET_VRING_CALL,
        FrontendReq::SET_VRING_KICK,
    ];
    let first =
        [FrontendReq::SET_FEATURES, FrontendReq::SET_INFLIGHT_FD, FrontendReq::SET_MEM_TABLE];
    let last = [FrontendReq::SET_VRING_ENABLE; 2];
    assert_eq!(told, [&first[..], &per_queue, &per_queue, &last].concat());
    assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
    assert_eq!(puppet.bases, [0, 0]);
    assert_eq!(frontend.deadline(), None);
}

#[test]
fn a_backend_that_can_is_given_the_log_behind_the_memory() {
    let now = Instant::now();
    for log_reply in [8, 16] {
        let mut frontend = logging_frontend();
        let mut puppet = Puppet::connect(&mut frontend, now);
        (puppet.features, puppet.protocol) = (puppet.features | LOG_ALL, puppet.protocol | 1 << 1);
        puppet.log_reply = log_reply;
        let offer = up(&mut frontend, &mut puppet, now);
        assert_eq!(offer.features & LOG_ALL, 0, "it is nothing for the guest");
        assert!(frontend.logs_writes());
        frontend.start(activation(), now);
        assert!(events(&mut frontend, now).is_empty());
        puppet.serve_one();
        assert!(events(&mut frontend, now).is_empty());
        let told = puppet.serve_until_quiet();
        let log = told.iter().position(|request| *request == FrontendReq::SET_LOG_BASE).unwrap();
        assert_eq!(told[log - 1], FrontendReq::SET_MEM_TABLE);
        assert_eq!(told[log + 1], FrontendReq::SET_VRING_NUM);
        assert_ne!(puppet.accepted & LOG_ALL, 0);
        assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
    }
}

#[test]
fn a_backend_without_a_log_serves_and_is_known_not_to_log() {
    let now = Instant::now();
    for (features, protocol) in [(LOG_ALL, 0), (0, 1 << 1)] {
        let mut frontend = logging_frontend();
        let mut puppet = Puppet::connect(&mut frontend, now);
        (puppet.features, puppet.protocol) =
            (puppet.features | features, puppet.protocol | protocol);
        up(&mut frontend, &mut puppet, now);
        assert!(!frontend.logs_writes());
        frontend.start(activation(), now);
        for _ in 0..2 {
            assert!(events(&mut frontend, now).is_empty());
            assert!(!puppet.serve_until_quiet().contains(&FrontendReq::SET_LOG_BASE));
        }
        assert_eq!(puppet.accepted & LOG_ALL, 0);
        assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
    }
}

#[test]
fn without_acknowledgements_a_question_says_that_all_was_done() {
    let now = Instant::now();
    let mut frontend = frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    puppet.protocol &= !(1 << 3);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    assert!(events(&mut frontend, now).is_empty());
    let told = puppet.serve_until_quiet();
    assert_eq!(told.last(), Some(&FrontendReq::GET_FEATURES));
    assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
}

#[test]
fn stop_is_complete_when_every_queue_has_told_its_base() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::serving(&mut frontend, now);
    frontend.stop(now);
    assert!(events(&mut frontend, now).is_empty());
    for _ in 0..3 {
        puppet.serve_one();
        assert!(events(&mut frontend, now).is_empty());
    }
    assert_eq!(puppet.serve_one(), FrontendReq::GET_VRING_BASE);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
}

#[test]
fn a_device_that_was_reset_starts_afresh_on_the_same_connection() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::serving(&mut frontend, now);
    frontend.stop(now);
    events(&mut frontend, now);
    puppet.serve_until_quiet();
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
    frontend.start(activation(), now);
    events(&mut frontend, now);
    assert_eq!(puppet.serve_until_quiet(), [FrontendReq::GET_INFLIGHT_FD]);
    events(&mut frontend, now);
    let told = puppet.serve_until_quiet();
    assert!(!told.contains(&FrontendReq::SET_MEM_TABLE), "the table has not changed");
    assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
}

#[test]
fn a_reset_while_starting_stops_what_was_started() {
    let now = Instant::now();
    let mut frontend = frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    events(&mut frontend, now);
    frontend.stop(now);
    assert!(events(&mut frontend, now).is_empty());
    let told = puppet.serve_until_quiet();
    assert_eq!(told[told.len() - 2..], [FrontendReq::GET_VRING_BASE; 2]);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
}

#[test]
fn a_reset_while_the_table_is_cleared_starts_nothing() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    frontend.stop(now);
    assert!(events(&mut frontend, now).is_empty());
    assert_eq!(puppet.serve_until_quiet(), [FrontendReq::GET_INFLIGHT_FD]);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
}

#[test]
fn a_device_that_was_never_started_stops_at_once() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    frontend.stop(now);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
}

#[test]
fn a_changed_configuration_space_is_read_again_and_told_once() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::serving(&mut frontend, now);
    puppet.config[0] = 77;
    for _ in 0..3 {
        puppet.announce_change();
    }
    assert!(events(&mut frontend, now).is_empty());
    assert_eq!(puppet.serve_until_quiet(), [FrontendReq::GET_CONFIG]);
    match &events(&mut frontend, now)[..] {
        [Event::ConfigChanged(config)] => assert_eq!(config[0], 77),
        other => panic!("{other:?}"),
    }
    puppet.announce_change();
    events(&mut frontend, now);
    puppet.serve_until_quiet();
    assert!(events(&mut frontend, now).is_empty(), "nothing has changed");
}

#[test]
fn a_backend_that_makes_no_requests_is_not_given_a_channel() {
    let now = Instant::now();
    let mut frontend = frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    puppet.protocol &= !(1 << 5);
    assert_eq!(frontend.sockets().count(), 2);
    up(&mut frontend, &mut puppet, now);
    assert_eq!(frontend.sockets().count(), 1);
}

#[test]
fn every_question_has_a_deadline_and_a_silent_backend_is_cut_off_at_it() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let _puppet = Puppet::connect(&mut frontend, now);
    assert!(events(&mut frontend, now).is_empty());
    let deadline = frontend.deadline().expect("features were asked for");
    assert!(events(&mut frontend, deadline - Duration::from_nanos(1)).is_empty());
    match &events(&mut frontend, deadline)[..] {
        [Event::Lost(loss)] => {
            let fault = loss.fault.as_ref().unwrap().to_string();
            assert_eq!(fault, "did not answer GET_FEATURES within 5000 ms");
        }
        other => panic!("{other:?}"),
    }
    assert!(!frontend.is_connected());
}

#[test]
fn who_looks_too_late_was_not_running_himself_and_gives_grace() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let _puppet = Puppet::connect(&mut frontend, now);
    assert!(events(&mut frontend, now).is_empty());
    let thawed = frontend.deadline().unwrap() + Duration::from_secs(10);
    assert!(events(&mut frontend, thawed).is_empty());
    let deadline = frontend.deadline().unwrap();
    assert_eq!(deadline, thawed + Duration::from_secs(1));
    assert!(matches!(events(&mut frontend, deadline)[..], [Event::Lost(_)]));
}
