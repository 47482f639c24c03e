//! The real process under its release filter: clients, answers, events, and what they do to it.
//!
//! A call that the profile lacks kills the process by SIGSYS, and the test names the signal.

mod process;

use std::os::fd::AsFd;

use bulkhead_protocol::control::{FromSupervisor, Request, Response};
use bulkhead_protocol::crash::Crash;
use bulkhead_protocol::event::{Event, EventKind};
use bulkhead_sys::seqpacket;
use process::Process;

fn event(text: &str) -> FromSupervisor {
    let crash = Crash { vcpu: 0, reason: text.to_owned(), registers: None };
    let kind = EventKind::GuestCrashed(crash);
    FromSupervisor::Happened(Event { time: 1, vm: "v".into(), kind })
}

#[test]
fn every_request_is_asked_of_the_supervisor_and_answered() {
    let mut process = Process::start();
    let client = process.client();
    let requests = [
        Request::Processes,
        Request::Status,
        Request::Pause,
        Request::Resume,
        Request::Shutdown { timeout_ms: 1000 },
        Request::Kill,
        Request::Reset,
    ];
    for request in requests {
        client.send(&request, &[]).unwrap();
        let call = process.call();
        assert_eq!(call.request, request);
        process.tell(FromSupervisor::Answer { call: call.call, response: Response::Done }, &[]);
        assert_eq!(process::hear(&client).0, Response::Done);
    }
    client.send(&Request::Console, &[]).unwrap();
    let call = process.call().call;
    let (stream, _far) = seqpacket::stream_pair().unwrap();
    process.tell(FromSupervisor::Answer { call, response: Response::Console }, &[stream.as_fd()]);
    assert_eq!(process::hear(&client).1.len(), 1);
    assert_eq!(process.heartbeat(1), 9);
    process.stop();
}

#[test]
fn a_crowd_of_clients_of_every_kind_costs_the_process_nothing() {
    let mut process = Process::start();
    for round in 0..20 {
        let crowd: Vec<_> = (0..40).map(|_| process.connect()).collect();
        for (index, client) in crowd.iter().enumerate() {
            match index % 4 {
                0 => {
                    drop(client.send(&Request::Hello { version: bulkhead_protocol::VERSION }, &[]))
                }
                1 => drop(seqpacket::send(client.as_fd(), &[0xee; 60_000], &[])),
                2 => drop(seqpacket::send(client.as_fd(), b"x", &[client.as_fd(); 60])),
                _ => {}
            }
        }
        process.heartbeat(round);
    }
    let client = process.client();
    client.send(&Request::Status, &[]).unwrap();
    assert_eq!(process.call().request, Request::Status);
    process.stop();
}

#[test]
fn a_follower_that_never_reads_delays_no_heartbeat() {
    let mut process = Process::start();
    let (slow, good) = (process.client(), process.client());
    for client in [&slow, &good] {
        client.send(&Request::Events, &[]).unwrap();
    }
    assert_eq!(process::hear(&good).0, Response::Done);
    for round in 0..100 {
        process.tell(event(&"x".repeat(20_000)), &[]);
        assert!(matches!(process::hear(&good).0, Response::Event(_)));
        process.heartbeat(round);
    }
    process.stop();
}

#[test]
fn a_closed_channel_ends_the_process_with_0() {
    Process::start().hang_up();
}
