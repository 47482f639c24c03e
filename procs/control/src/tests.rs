//! The server over socket pairs, with the test in the supervisor's place.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::VERSION;
use bulkhead_protocol::control::{Request, Response, ToSupervisor};
use bulkhead_protocol::event::{Event, EventKind};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::Poller;
use bulkhead_sys::seqpacket;

use crate::judge::LONGEST_SHUTDOWN_MS;
use crate::server::{MOST_CLIENTS, Server};

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("control")).unwrap();
    listener.set_nonblocking(true).unwrap();
    Server::new(Poller::new().unwrap(), listener.into()).unwrap()
}

/// Handles what is there, until nothing is.
fn settle(server: &mut Server) {
    loop {
        let mut news = Vec::new();
        server.poller().wait(Some(Duration::ZERO), &mut news).unwrap();
        if news.is_empty() {
            return;
        }
        news.iter().for_each(|event| server.news(event));
    }
}

fn stranger(server: &mut Server) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    server.admit(theirs);
    ours
}

fn hear(client: &Channel) -> Result<(Response, Vec<OwnedFd>), ChannelError> {
    client.receive_by(Deadline::after(Duration::ZERO))
}

fn say(server: &mut Server, client: &Channel, request: Request) {
    client.send(&request, &[]).unwrap();
    settle(server);
}

fn greeted(server: &mut Server) -> Channel {
    let client = stranger(server);
    say(server, &client, Request::Hello { version: VERSION });
    assert_eq!(hear(&client).unwrap().0, Response::Done);
    client
}

fn event() -> Event {
    Event { time: 1, vm: "v".into(), kind: EventKind::Paused }
}

#[test]
fn a_request_goes_to_the_supervisor_and_its_answer_to_the_client_who_asked() {
    let mut server = server();
    let (one, two) = (greeted(&mut server), greeted(&mut server));
    say(&mut server, &one, Request::Pause);
    say(&mut server, &two, Request::Status);
    let calls = server.calls();
    let [first, second] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(first.request, Request::Pause);
    assert_eq!(second.request, Request::Status);
    server.answer(second.call, &Response::Refused("two".into()), &[]);
    server.answer(first.call, &Response::Done, &[]);
    assert_eq!(hear(&one).unwrap().0, Response::Done);
    assert_eq!(hear(&two).unwrap().0, Response::Refused("two".into()));
    assert_eq!(server.answered(), 4);
}

#[test]
fn a_console_answer_brings_its_descriptor() {
    let mut server = server();
    let client = greeted(&mut server);
    say(&mut server, &client, Request::Console);
    let call = server.calls()[0].call;
    let (stream, far) = seqpacket::stream_pair().unwrap();
    server.answer(call, &Response::Console, &[stream]);
    let (response, fds) = hear(&client).unwrap();
    assert_eq!((response, fds.len()), (Response::Console, 1));
    seqpacket::send(fds[0].as_fd(), b"x", &[]).unwrap();
    assert_eq!(seqpacket::receive(far.as_fd(), &mut [0; 4]).unwrap().len, 1);
}

#[test]
fn one_request_at_a_time_the_next_waits_in_the_clients_own_socket() {
    let mut server = server();
    let client = greeted(&mut server);
    say(&mut server, &client, Request::Pause);
    say(&mut server, &client, Request::Resume);
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    server.answer(calls[0].call, &Response::Done, &[]);
    settle(&mut server);
    let next: Vec<Request> = server.calls().into_iter().map(|call| call.request).collect();
    assert_eq!(next, [Request::Resume]);
}

#[test]
fn who_does_not_begin_with_a_fitting_hello_is_told_and_dismissed() {
    for first in [Request::Kill, Request::Hello { version: VERSION + 1 }] {
        let mut server = server();
        let client = stranger(&mut server);
        say(&mut server, &client, first);
        assert!(matches!(hear(&client).unwrap().0, Response::Refused(_)));
        assert!(matches!(hear(&client), Err(ChannelError::Closed)));
        assert_eq!((server.clients(), server.calls()), (0, vec![]));
    }
}

#[test]
fn a_second_hello_dismisses() {
    let mut server = server();
    let client = greeted(&mut server);
    say(&mut server, &client, Request::Hello { version: VERSION });
    assert!(matches!(hear(&client).unwrap().0, Response::Refused(_)));
    assert_eq!(server.clients(), 0);
}

#[test]
fn bytes_that_are_no_request_and_surplus_descriptors_end_the_connection() {
    let mut server = server();
    let client = greeted(&mut server);
    seqpacket::send(client.as_fd(), &[0xff; 300], &[]).unwrap();
    settle(&mut server);
    assert_eq!(server.clients(), 0);

    let client = greeted(&mut server);
    let bytes = bulkhead_channel::codec::encode(&Request::Status).unwrap();
    seqpacket::send(client.as_fd(), &bytes, &[client.as_fd()]).unwrap();
    settle(&mut server);
    assert_eq!((server.clients(), server.calls()), (0, vec![]));
}

#[test]
fn a_time_out_of_more_than_a_day_is_refused_and_the_connection_goes_on() {
    let mut server = server();
    let client = greeted(&mut server);
    let timeout_ms = LONGEST_SHUTDOWN_MS + 1;
    say(&mut server, &client, Request::Shutdown { timeout_ms });
    assert!(matches!(hear(&client).unwrap().0, Response::Refused(_)));
    let timeout_ms = LONGEST_SHUTDOWN_MS;
    say(&mut server, &client, Request::Shutdown { timeout_ms });
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn events_reach_those_who_asked_and_nobody_else() {
    let mut server = server();
    let (follower, other) = (greeted(&mut server), greeted(&mut server));
    say(&mut server, &follower, Request::Events);
    assert_eq!(hear(&follower).unwrap().0, Response::Done);
    server.happened(event());
    assert_eq!(hear(&follower).unwrap().0, Response::Event(event()));
    assert!(matches!(hear(&other), Err(ChannelError::Deadline)));
    assert!(server.calls().is_empty());
}

#[test]
fn a_follower_that_reads_nothing_is_dropped_and_the_others_are_not() {
    let mut server = server();
    let (slow, good) = (greeted(&mut server), greeted(&mut server));
    say(&mut server, &slow, Request::Events);
    say(&mut server, &good, Request::Events);
    assert_eq!(hear(&good).unwrap().0, Response::Done);
    let mut sent = 0;
    while server.clients() == 2 {
        server.happened(event());
        sent += 1;
        assert_eq!(hear(&good).unwrap().0, Response::Event(event()));
        assert!(sent < 1_000_000, "an unread socket took a million events");
    }
    assert_eq!(server.clients(), 1);
    server.happened(event());
    assert_eq!(hear(&good).unwrap().0, Response::Event(event()));
}

#[test]
fn an_answer_for_a_client_that_has_gone_reaches_nobody() {
    let mut server = server();
    let (gone, stays) = (greeted(&mut server), greeted(&mut server));
    say(&mut server, &gone, Request::Kill);
    let calls = server.calls();
    drop(gone);
    settle(&mut server);
    assert_eq!(server.clients(), 1);
    server.answer(calls[0].call, &Response::Done, &[]);
    assert!(matches!(hear(&stays), Err(ChannelError::Deadline)));
}

#[test]
fn a_request_of_a_client_that_hangs_up_at_once_is_still_carried_out() {
    let mut server = server();
    let client = greeted(&mut server);
    client.send(&Request::Kill, &[]).unwrap();
    drop(client);
    settle(&mut server);
    assert!(matches!(server.calls().as_slice(), [ToSupervisor { request: Request::Kill, .. }]));
    assert_eq!(server.clients(), 0);
}

#[test]
fn clients_beyond_the_limit_are_told_so_and_room_comes_back() {
    let mut server = server();
    let mut clients: Vec<Channel> = (0..MOST_CLIENTS).map(|_| greeted(&mut server)).collect();
    let refused = stranger(&mut server);
    assert!(matches!(hear(&refused).unwrap().0, Response::Refused(_)));
    assert!(matches!(hear(&refused), Err(ChannelError::Closed)));
    clients.pop();
    settle(&mut server);
    greeted(&mut server);
}

#[test]
fn silence_has_an_end_before_the_hello_and_while_an_answer_is_due_but_not_between() {
    let mut server = server();
    assert_eq!(server.patience(), None);
    let client = stranger(&mut server);
    assert!(server.patience().is_some_and(|time| time <= crate::client::GREETING));
    say(&mut server, &client, Request::Hello { version: VERSION });
    assert_eq!(server.patience(), None);
    say(&mut server, &client, Request::Pause);
    assert!(server.patience().is_some_and(|time| time <= crate::client::ANSWER));
    server.expire();
    assert_eq!(server.clients(), 1);
}
