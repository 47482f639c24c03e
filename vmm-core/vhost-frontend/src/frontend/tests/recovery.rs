//! Backends die under a running driver.

use std::sync::atomic::Ordering;

use super::*;
use bulkhead_memory::GuestRange;

fn set_used_index(frontend: &Frontend, queue: u64, index: u16) {
    let range = GuestRange::new(queue * puppet::QUEUE + puppet::USED + 2, 2);
    let word = frontend.ram.memory.check(range).unwrap();
    word.store_u16(0, index, Ordering::Release).unwrap();
}

#[test]
fn a_successor_resumes_at_the_used_index_with_the_table_untouched() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    drop(Puppet::serving(&mut frontend, now));
    set_used_index(&frontend, 0, 500);
    set_used_index(&frontend, 1, 65535);
    match &events(&mut frontend, now)[..] {
        [Event::Lost(loss)] => {
            assert!(matches!(loss.fault, Some(Fault::HungUp)) && !loss.needs_reset)
        }
        other => panic!("{other:?}"),
    }
    let mut successor = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut successor, now);
    events(&mut frontend, now);
    let told = successor.serve_until_quiet();
    assert!(
        told.contains(&FrontendReq::SET_INFLIGHT_FD)
            && !told.contains(&FrontendReq::GET_INFLIGHT_FD)
    );
    assert!(told.contains(&FrontendReq::SET_MEM_TABLE));
    assert_eq!(successor.bases, [500, 65535]);
    assert!(!frontend.bells[0].kick.is_rung());
    assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
    for bells in &frontend.bells {
        assert!(bells.kick.is_rung() && bells.call.is_rung(), "the death may have swallowed them");
    }
}

#[test]
fn a_backend_that_dies_while_its_table_is_cleared_was_never_started() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    drop(puppet);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Lost(_)]));
    let mut successor = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut successor, now);
    events(&mut frontend, now);
    assert_eq!(successor.serve_until_quiet(), [FrontendReq::GET_INFLIGHT_FD]);
}

#[test]
fn a_backend_that_dies_while_starting_may_have_taken_requests() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    events(&mut frontend, now);
    puppet.serve_one();
    events(&mut frontend, now);
    drop(puppet);
    events(&mut frontend, now);
    let mut successor = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut successor, now);
    events(&mut frontend, now);
    assert!(!successor.serve_until_quiet().contains(&FrontendReq::GET_INFLIGHT_FD));
}

#[test]
fn requests_of_somebody_elses_backend_are_lost_and_never_guessed() {
    let now = Instant::now();
    let mut frontend = frontend();
    drop(Puppet::serving(&mut frontend, now));
    match &events(&mut frontend, now)[..] {
        [Event::Lost(loss)] => assert!(loss.needs_reset),
        other => panic!("{other:?}"),
    }
    let mut successor = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut successor, now);
    assert!(events(&mut frontend, now).is_empty());
    assert!(successor.serve_until_quiet().is_empty(), "no queue may run before a reset");
    frontend.stop(now);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
    frontend.start(activation(), now);
    events(&mut frontend, now);
    successor.serve_until_quiet();
    assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
}

#[test]
fn a_reset_waits_until_a_dead_backend_is_reaped() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    drop(Puppet::serving(&mut frontend, now));
    events(&mut frontend, now);
    frontend.stop(now);
    assert!(events(&mut frontend, now).is_empty(), "it may still write to guest memory");
    frontend.disconnect();
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
}

#[test]
fn a_backend_that_does_not_stop_in_time_is_lost_and_the_reset_ends_when_it_is_reaped() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let _puppet = Puppet::serving(&mut frontend, now);
    frontend.stop(now);
    events(&mut frontend, now);
    let deadline = frontend.deadline().unwrap();
    match &events(&mut frontend, deadline)[..] {
        [Event::Lost(Loss { fault: Some(Fault::Silent { .. }), needs_reset: false })] => {}
        other => panic!("{other:?}"),
    }
    frontend.disconnect();
    assert!(matches!(events(&mut frontend, deadline)[..], [Event::Stopped]));
}

#[test]
fn a_reset_during_a_reconnection_starts_nothing() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    drop(Puppet::serving(&mut frontend, now));
    events(&mut frontend, now);
    let mut successor = Puppet::connect(&mut frontend, now);
    frontend.stop(now);
    assert!(matches!(events(&mut frontend, now)[..], [Event::Stopped]));
    up(&mut frontend, &mut successor, now);
    assert!(events(&mut frontend, now).is_empty());
    assert!(successor.serve_until_quiet().is_empty());
}

#[test]
fn a_driver_that_is_ready_before_its_backend_is_served_when_one_comes() {
    let now = Instant::now();
    let mut frontend = frontend();
    frontend.start(activation(), now);
    assert!(events(&mut frontend, now).is_empty());
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    events(&mut frontend, now);
    puppet.serve_until_quiet();
    assert!(matches!(events(&mut frontend, now)[..], [Event::Serving]));
}

#[test]
fn a_successor_with_other_features_is_refused() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    drop(Puppet::serving(&mut frontend, now));
    events(&mut frontend, now);
    let mut successor = Puppet::connect(&mut frontend, now);
    successor.features &= !(1 << 9);
    for _ in 0..3 {
        assert!(frontend.advance(now).is_none());
        successor.serve_until_quiet();
    }
    match &events(&mut frontend, now)[..] {
        [Event::Lost(Loss { fault: Some(Fault::FeaturesChanged { .. }), needs_reset: false })] => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_that_grew_while_its_backend_was_dead_is_told() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    drop(Puppet::serving(&mut frontend, now));
    events(&mut frontend, now);
    let mut successor = Puppet::connect(&mut frontend, now);
    successor.config[0] = 8;
    up(&mut frontend, &mut successor, now);
    assert!(matches!(frontend.advance(now), Some(Event::ConfigChanged(_))));
}
