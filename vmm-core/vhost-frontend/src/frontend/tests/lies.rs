//! Backends that break the protocol, say too much, or contradict themselves.

use std::os::fd::AsFd;

use super::puppet::{all_closed, gift};
use super::*;
use bulkhead_sys::seqpacket::send;
use bulkhead_virtio_transport::DeviceType;
use proptest::prelude::*;

/// Serves the handshake of a backend as `lie` made it, and returns its fault.
fn fault_of(mut frontend: Frontend, lie: impl FnOnce(&mut Puppet)) -> Fault {
    let now = Instant::now();
    let mut puppet = Puppet::connect(&mut frontend, now);
    lie(&mut puppet);
    for _ in 0..10 {
        match frontend.advance(now) {
            Some(Event::Lost(loss)) => return loss.fault.expect("a fault"),
            Some(other) => panic!("{other:?}"),
            None => puppet.serve_until_quiet(),
        };
    }
    panic!("no fault");
}

/// The fault in which the connection has just ended.
fn only_fault(frontend: &mut Frontend, now: Instant) -> Fault {
    match events(frontend, now).pop() {
        Some(Event::Lost(Loss { fault: Some(fault), .. })) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_backend_lacks_is_named() {
    let lacks = |frontend, lie: fn(&mut Puppet)| fault_of(frontend, lie).to_string();
    assert_eq!(
        lacks(frontend(), |puppet| puppet.features &= !(1 << 32)),
        "lacks VIRTIO_F_VERSION_1"
    );
    let no_protocol = lacks(frontend(), |puppet| puppet.features &= !(1 << 30));
    assert_eq!(no_protocol, "lacks VHOST_USER_F_PROTOCOL_FEATURES");
    let no_mq = lacks(frontend(), |puppet| puppet.protocol &= !1);
    assert_eq!(no_mq, "lacks VHOST_USER_PROTOCOL_F_MQ");
    let no_config = lacks(frontend(), |puppet| puppet.protocol &= !(1 << 9));
    assert_eq!(no_config, "lacks VHOST_USER_PROTOCOL_F_CONFIG");
    let no_inflight = lacks(own_frontend(), |puppet| puppet.protocol &= !(1 << 12));
    assert_eq!(no_inflight, "lacks VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD");
}

#[test]
fn a_backend_that_lies_about_its_queues_is_refused() {
    let too_few = fault_of(frontend(), |puppet| puppet.queues = 1);
    assert_eq!(too_few.to_string(), "has 1 queues, 2 were planned");
    for (queues, config) in [(4, 0), (4, 5), (4, 0xffff), (u64::MAX, 4)] {
        let fault = fault_of(frontend(), |puppet| {
            puppet.queues = queues;
            puppet.config[34..36].copy_from_slice(&u16::to_le_bytes(config));
        });
        assert!(matches!(fault, Fault::QueueLie { .. }), "{fault}");
    }
    let no_mq = fault_of(frontend(), |puppet| puppet.features &= !(1 << 12));
    assert!(matches!(no_mq, Fault::TooFewQueues { has: 1, planned: 2 }));
}

#[test]
fn a_refusal_names_what_was_refused() {
    let now = Instant::now();
    let mut frontend = frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    events(&mut frontend, now);
    puppet.hear();
    puppet.say(FrontendReq::SET_FEATURES, &1u64.to_ne_bytes());
    assert_eq!(only_fault(&mut frontend, now).to_string(), "refused SET_FEATURES (error 1)");
}

#[test]
fn half_messages_end_at_the_deadline_however_slowly_they_trickle() {
    let mut now = Instant::now();
    let mut frontend = own_frontend();
    let puppet = Puppet::connect(&mut frontend, now);
    assert!(events(&mut frontend, now).is_empty());
    let deadline = frontend.deadline().unwrap();
    for byte in [1, 0, 0, 0, 5, 0, 0, 0, 8, 0] {
        puppet.say_raw(&[byte]);
        now += Duration::from_millis(400);
        assert!(events(&mut frontend, now).is_empty());
        assert_eq!(frontend.deadline(), Some(deadline), "a byte buys no time");
    }
    assert!(matches!(only_fault(&mut frontend, deadline), Fault::Silent { .. }));
}

#[test]
fn unsolicited_replies_are_faults_in_every_phase() {
    let now = Instant::now();
    let phases: [fn(&mut Frontend, Instant) -> Puppet; 2] = [Puppet::connect, Puppet::serving];
    for phase in phases {
        for request in
            [FrontendReq::GET_VRING_BASE, FrontendReq::SET_MEM_TABLE, FrontendReq::GET_CONFIG]
        {
            let mut frontend = own_frontend();
            let mut puppet = phase(&mut frontend, now);
            puppet.say(request, &[0; 8]);
            let fault = only_fault(&mut frontend, now);
            assert!(matches!(fault, Fault::Unsolicited { .. }), "{fault}");
        }
    }
}

#[test]
fn thirty_two_descriptors_a_thousand_times_are_all_closed() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let (gift, witness) = gift();
    for _ in 0..1000 {
        let mut puppet = Puppet::connect(&mut frontend, now);
        puppet.gift = gift.clone();
        puppet.say_with_fds(FrontendReq::GET_FEATURES, &[0; 8], 32);
        assert!(matches!(only_fault(&mut frontend, now), Fault::SurplusDescriptors(32)));
    }
    assert!(all_closed(gift, &witness));
}

#[test]
fn a_second_descriptor_beside_the_inflight_table_is_blamed() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    events(&mut frontend, now);
    let body = puppet.hear().body;
    puppet.say_with_fds(FrontendReq::GET_INFLIGHT_FD, &body, 2);
    assert!(matches!(only_fault(&mut frontend, now), Fault::SurplusDescriptors(2)));
}

#[test]
fn an_inflight_table_of_another_shape_is_refused() {
    let now = Instant::now();
    let mut frontend = own_frontend();
    let mut puppet = Puppet::connect(&mut frontend, now);
    up(&mut frontend, &mut puppet, now);
    frontend.start(activation(), now);
    events(&mut frontend, now);
    let mut body = puppet.hear().body;
    body[16] = 200;
    puppet.say_with_fds(FrontendReq::GET_INFLIGHT_FD, &body, 1);
    let fault = only_fault(&mut frontend, now);
    assert!(matches!(fault, Fault::InflightShape { queues: 200, queue_size: 256 }), "{fault}");
}

#[test]
fn impossible_bases_are_refused() {
    let now = Instant::now();
    for (index, base) in [(2u32, 0u32), (0, 65536), (u32::MAX, 0)] {
        let mut frontend = own_frontend();
        let mut puppet = Puppet::serving(&mut frontend, now);
        frontend.stop(now);
        events(&mut frontend, now);
        puppet.serve_one();
        puppet.serve_one();
        puppet.hear();
        puppet.say(FrontendReq::GET_VRING_BASE, &[index, base].map(u32::to_ne_bytes).concat());
        assert!(matches!(only_fault(&mut frontend, now), Fault::Base { .. }));
    }
}

#[test]
fn a_backend_that_announces_and_never_answers_is_cut_off_at_the_first_deadline() {
    let mut now = Instant::now();
    let mut frontend = own_frontend();
    let puppet = Puppet::serving(&mut frontend, now);
    let deadline = now + Duration::from_secs(5);
    while now < deadline {
        puppet.announce_change();
        assert!(events(&mut frontend, now).is_empty());
        now += Duration::from_millis(100);
    }
    assert!(matches!(only_fault(&mut frontend, deadline), Fault::Silent { .. }));
}

#[test]
fn damaged_conversations_cost_no_descriptor_and_end_in_a_fault_if_at_all() {
    let mut now = Instant::now();
    let mut frontend = own_frontend();
    let (gift, witness) = gift();
    let (mut faults, mut served) = (0, 0);
    for seed in 1..2000 {
        let mut puppet = Puppet::connect(&mut frontend, now);
        puppet.noise = seed;
        puppet.gift = gift.clone();
        frontend.start(activation(), now);
        for round in 0..12 {
            for event in events(&mut frontend, now) {
                served += u32::from(matches!(event, Event::Serving));
                faults += u32::from(matches!(event, Event::Lost(Loss { fault: Some(_), .. })));
            }
            if frontend.is_connected() {
                puppet.serve_until_quiet();
            }
            if round == 8 {
                frontend.stop(now);
            }
        }
        now += Duration::from_secs(60);
        events(&mut frontend, now);
        frontend.disconnect();
        events(&mut frontend, now);
        assert!(matches!(frontend.driver, Driver::Down), "every reset ends");
    }
    assert!(all_closed(gift, &witness));
    assert!(faults > 100 && served > 100, "{faults} faults, {served} times served");
}

proptest! {
    #[test]
    fn arbitrary_bytes_on_both_channels_end_in_a_fault_or_in_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 1..400),
        requests in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let now = Instant::now();
        let mut frontend = own_frontend();
        let puppet = Puppet::serving(&mut frontend, now);
        puppet.say_raw(&bytes);
        if let Some(channel) = &puppet.requests {
            send(channel.as_fd(), &requests, &[]).unwrap();
        }
        for event in events(&mut frontend, now) {
            let is_fault = matches!(event, Event::Lost(Loss { fault: Some(_), needs_reset: false }));
            prop_assert!(is_fault);
        }
    }

    #[test]
    fn damaged_offers_are_served_or_faulted_but_never_offered_to_the_guest_beyond_the_plan(
        damage in proptest::collection::vec(any::<(u8, u8)>(), 1..8),
    ) {
        let now = Instant::now();
        let mut frontend = own_frontend();
        let mut puppet = Puppet::connect(&mut frontend, now);
        for (at, value) in damage {
            puppet.config[usize::from(at) % 60] ^= value;
            puppet.features ^= u64::from(value & 1) << (at % 64);
            puppet.protocol ^= u64::from(value >> 1 & 1) << (at % 64);
        }
        for _ in 0..6 {
            for event in events(&mut frontend, now) {
                if let Event::Up(offer) = event {
                    prop_assert_eq!(offer.features & !DeviceType::BLK.features, 0);
                    prop_assert_eq!(&offer.config[34..36], &[2, 0]);
                }
            }
            if frontend.is_connected() {
                puppet.serve_until_quiet();
            }
        }
        prop_assert!(!frontend.is_connected() || frontend.offer().is_some());
    }
}
