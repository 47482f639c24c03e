//! Conversations with servers that do as they are told, and with servers that lie.

mod server;

use std::cell::RefCell;

use bulkhead_nbd::error::Error;
use bulkhead_nbd::reply::{self, Addressee, Style};
use bulkhead_nbd::request::Command;
use server::{BYTES, Server, honest};

use super::*;
use crate::memory::{Heap, Memory};
use crate::outcome::Outcome;
use crate::storage::Storage;
use crate::task::{Tasks, finish};

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
struct Still(Cell<Duration>);

impl Clock for Still {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn wake_at(&self, _until: Duration, _waker: std::task::Waker) {}
}

fn plan() -> RemotePlan {
    RemotePlan {
        layer: 0,
        export: "disk".into(),
        tls: None,
        reconnect_delay_ms: 1000,
        connections: 1,
        known: None,
    }
}

/// A disk on this server, whose requests are waited for where they are made.
fn alone(server: Server) -> Result<Remote, RemoteError> {
    let clock = Rc::new(Still::default());
    let remote = Remote::begin(plan(), server.run(), false, clock, nobody_else())?;
    finish(remote.known())?;
    Ok(remote)
}

fn nobody_else() -> Rc<Alone> {
    let alone = Rc::new(Alone::default());
    alone.set(true);
    alone
}

/// A disk on this server, whose requests wait as tasks.
fn begun(server: Server, clock: &Rc<Still>) -> Remote {
    Remote::begin(plan(), server.run(), false, Rc::clone(clock) as _, Rc::default()).unwrap()
}

fn bytes(remote: &Remote, at: u64, len: usize) -> Result<Vec<u8>, Failure> {
    let into = Heap::copy_of(&vec![0xEE; len]);
    finish(remote.read(at, into.clone().into()))?;
    Ok(into.to_vec())
}

fn write(remote: &Remote, at: u64, bytes: &[u8]) -> Outcome {
    finish(remote.write(at, Heap::copy_of(bytes).into()))
}

#[test]
fn data_comes_and_goes_in_every_style() {
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        for minimum in [1, 512, 4096] {
            let remote = alone(Server { style, minimum, ..Server::new(honest()) }).unwrap();
            assert_eq!(remote.size(), Ok(BYTES));
            write(&remote, 700, &[7; 3000]).unwrap();
            write(&remote, 1000, &[8; 100]).unwrap();
            let now = bytes(&remote, 0, 5000).unwrap();
            assert!(now[..700].iter().chain(&now[3700..]).all(|byte| *byte == 0));
            assert!(now[1000..1100].iter().all(|byte| *byte == 8));
            assert!(now[700..1000].iter().chain(&now[1100..3700]).all(|byte| *byte == 7));
            finish(remote.zero(800, 2000)).unwrap();
            assert!(bytes(&remote, 800, 2000).unwrap().iter().all(|byte| *byte == 0));
            assert_eq!(bytes(&remote, 2800, 1).unwrap(), [7]);
            finish(remote.sync()).unwrap();
            assert_eq!(bytes(&remote, BYTES - 1, 3).unwrap(), [0; 3], "behind the end");
            assert_eq!(write(&remote, BYTES - 1, &[1; 2]), Err(Failure::NO_SPACE));
        }
    }
}

#[test]
fn an_error_is_the_requests_and_not_the_lines() {
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        let mut honest = honest();
        let server = Server::new(Box::new(move |style, request, payload| {
            let to = Addressee { cookie: request.cookie, offset: request.offset };
            match Command::from_code(request.command) {
                Some(Command::Write) => {
                    let mut out = Vec::new();
                    reply::encode_error(&mut out, style, to, Error::NoSpace, "full");
                    Some(out)
                }
                _ => honest(style, request, payload),
            }
        }));
        let remote = alone(Server { style, ..server }).unwrap();
        assert_eq!(write(&remote, 0, &[1; 512]), Err(Failure::NO_SPACE));
        assert_eq!(bytes(&remote, 0, 4).unwrap(), [0; 4]);
        assert!(!remote.news().iter().any(|news| matches!(news, News::Lost(_))));
    }
}

#[test]
fn a_server_that_lies_is_left_and_nothing_of_it_is_believed() {
    type Lie = fn(Style, Addressee, &mut Vec<u8>);
    let lies: [(&str, Lie); 7] = [
        ("another cookie", |style, to, out| {
            let to = Addressee { cookie: to.cookie + 9, ..to };
            reply::encode_data(out, style, to, to.offset, 512, true);
            out.extend([1; 512]);
        }),
        ("data before", |style, to, out| {
            reply::encode_data(out, style, to, 0, 512, true);
            out.extend([1; 512]);
        }),
        ("data behind", |style, to, out| {
            reply::encode_data(out, style, to, to.offset + 512, 512, true);
            out.extend([1; 512]);
        }),
        ("too much", |style, to, out| {
            reply::encode_data(out, style, to, to.offset, 1 << 30, true);
        }),
        ("too little", |style, to, out| {
            reply::encode_data(out, style, to, to.offset, 100, true);
            out.extend([1; 100]);
        }),
        ("an answer to something else", |style, to, out| {
            let extents = [Extent { len: 512, status: 0 }];
            reply::encode_status(out, style, to, 0, &extents, true);
        }),
        ("noise", |_, _, out| out.extend([0xAB; 64])),
    ];
    for (name, lie) in lies {
        let server = Server::new(Box::new(move |style, request, _| {
            let to = Addressee { cookie: request.cookie, offset: request.offset };
            let mut out = Vec::new();
            lie(style, to, &mut out);
            Some(out)
        }));
        let remote = alone(server).unwrap();
        let around = Heap::copy_of(&[0xEE; 2048]);
        let into = Memory::from(around.clone()).part(512, 512);
        assert_eq!(finish(remote.read(4096, into)), Err(Failure::IO), "{name}");
        let around = around.to_vec();
        assert!(around[..512].iter().chain(&around[1024..]).all(|byte| *byte == 0xEE), "{name}");
        let news = remote.news();
        assert!(news.iter().any(|news| matches!(news, News::Lost(_))), "{name}: {news:?}");
        assert!(news.contains(&News::Wanted), "{name}: {news:?}");
    }
}

#[test]
fn what_was_asked_on_a_lost_line_is_asked_again_in_its_order() {
    let clock = Rc::new(Still::default());
    let deaf = Server::new(Box::new(|_, request, _| {
        // It takes three requests and dies.
        (request.cookie < 3).then(Vec::new)
    }));
    let remote = Remote::begin(plan(), deaf.run(), false, clock, Rc::default()).unwrap();
    let (mut tasks, done) = (Tasks::default(), Rc::new(RefCell::new(Vec::new())));
    drive(&remote, &mut tasks, |news| matches!(news, News::Connected(_)));
    for number in 0..5_u8 {
        let (remote, done) = (remote.clone(), Rc::clone(&done));
        tasks.spawn(async move {
            // All write the same bytes: the last one must be what stays.
            let page = Heap::copy_of(&[number; 512]);
            remote.write(0, page.into()).await.unwrap();
            done.borrow_mut().push(number);
        });
    }
    drive(&remote, &mut tasks, |news| *news == News::Wanted);
    assert!(done.borrow().is_empty());
    remote.take(Server::new(honest()).run());
    while tasks.running() > 0 {
        turn(&remote, &mut tasks);
    }
    assert_eq!(*done.borrow(), [0, 1, 2, 3, 4]);
    let into = Heap::zeroes(4);
    let (again, read) = (remote.clone(), into.clone());
    tasks.spawn(async move { again.read(0, read.into()).await.unwrap() });
    while tasks.running() > 0 {
        turn(&remote, &mut tasks);
    }
    assert_eq!(into.to_vec(), [4; 4]);
}

#[test]
fn without_a_server_requests_wait_for_the_delay_and_then_fail_until_it_is_back() {
    let clock = Rc::new(Still::default());
    let gone = Server::new(Box::new(|_, _, _| None));
    let remote = begun(gone, &clock);
    let mut tasks = Tasks::default();
    drive(&remote, &mut tasks, |news| matches!(news, News::Connected(_)));
    let ended = Rc::new(Cell::new(None));
    let (asked, end) = (remote.clone(), Rc::clone(&ended));
    tasks.spawn(async move { end.set(Some(asked.sync().await)) });
    drive(&remote, &mut tasks, |news| matches!(news, News::Lost(_)));
    clock.0.set(Duration::from_millis(999));
    remote.due(clock.now());
    tasks.run();
    assert_eq!(ended.get(), None, "not yet");
    clock.0.set(Duration::from_millis(1000));
    remote.due(clock.now());
    tasks.run();
    assert_eq!(ended.take(), Some(Err(Failure::IO)));
    let (asked, end) = (remote.clone(), Rc::clone(&ended));
    tasks.spawn(async move { end.set(Some(asked.sync().await)) });
    assert_eq!(ended.take(), Some(Err(Failure::IO)), "at once");
    remote.take(Server::new(honest()).run());
    drive(&remote, &mut tasks, |news| matches!(news, News::Connected(_)));
    let (asked, end) = (remote.clone(), Rc::clone(&ended));
    tasks.spawn(async move { end.set(Some(asked.sync().await)) });
    while ended.get().is_none() {
        turn(&remote, &mut tasks);
    }
    assert_eq!(ended.take(), Some(Ok(())));
}

#[test]
fn a_request_that_costs_one_line_after_another_fails_and_those_beside_it_do_not() {
    let clock = Rc::new(Still::default());
    let picky = || {
        let mut honest = honest();
        Server::new(Box::new(move |style, request, payload| match request.offset {
            4096 => None,
            _ => honest(style, request, payload),
        }))
    };
    let remote = begun(picky(), &clock);
    let (mut tasks, done) = (Tasks::default(), Rc::new(RefCell::new(Vec::new())));
    drive(&remote, &mut tasks, |news| matches!(news, News::Connected(_)));
    for number in 0..4_u64 {
        let (remote, done) = (remote.clone(), Rc::clone(&done));
        tasks.spawn(async move {
            let outcome = remote.write(number * 2048, Heap::copy_of(&[1; 512]).into()).await;
            done.borrow_mut().push((number, outcome));
        });
    }
    let mut lines = 1;
    while tasks.running() > 0 {
        turn(&remote, &mut tasks);
        if remote.news().contains(&News::Wanted) {
            lines += 1;
            remote.take(picky().run());
        }
    }
    let mut done = done.take();
    done.sort_by_key(|(number, _)| *number);
    let expected = [Ok(()), Ok(()), Err(Failure::IO), Ok(())];
    assert!(done.iter().map(|(_, outcome)| outcome).eq(&expected), "{done:?}");
    // An answer that has come is lost with its line if that is found out by what cannot be sent.
    assert!((6..=12).contains(&lines), "{lines}");
}

#[test]
fn a_server_that_is_left_fails_what_it_was_asked_and_is_asked_for_nothing() {
    let clock = Rc::new(Still::default());
    let remote = begun(Server::new(Box::new(|_, _, _| Some(Vec::new()))), &clock);
    let mut tasks = Tasks::default();
    drive(&remote, &mut tasks, |news| matches!(news, News::Connected(_)));
    clock.0.set(Duration::from_secs(3));
    assert_eq!(remote.quiet_since(), None, "it was asked nothing");
    let ended = Rc::new(Cell::new(None));
    let (asked, end) = (remote.clone(), Rc::clone(&ended));
    tasks.spawn(async move { end.set(Some(asked.sync().await)) });
    turn(&remote, &mut tasks);
    assert_eq!(remote.quiet_since(), Some(Duration::from_secs(3)));
    remote.expire(Some(Duration::from_secs(9)));
    assert_eq!(remote.next_due(), Some(Duration::from_secs(9)));
    clock.0.set(Duration::from_secs(9));
    remote.due(clock.now());
    tasks.run();
    assert_eq!(ended.take(), Some(Err(Failure::IO)));
    assert!(remote.is_abandoned() && remote.sockets().is_empty());
    let (asked, end) = (remote.clone(), Rc::clone(&ended));
    tasks.spawn(async move { end.set(Some(asked.sync().await)) });
    assert_eq!(ended.take(), Some(Err(Failure::IO)), "at once");
    remote.pump();
    assert!(!remote.news().contains(&News::Wanted), "it wants a socket");
}

#[test]
fn a_server_that_cannot_tell_what_it_holds_has_data() {
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        let mut honest = honest();
        let server = Server::new(Box::new(move |style, request, payload| {
            let to = Addressee { cookie: request.cookie, offset: request.offset };
            match Command::from_code(request.command) {
                Some(Command::BlockStatus) => {
                    let mut out = Vec::new();
                    // Some say so in the old way, whatever was agreed on.
                    let old = if style == Style::Extended { style } else { Style::Simple };
                    reply::encode_error(&mut out, old, to, Error::Invalid, "cannot say");
                    Some(out)
                }
                _ => honest(style, request, payload),
            }
        }));
        let remote = alone(Server { style, tells_holes: true, ..server }).unwrap();
        assert_eq!(finish(remote.reads_zero(0, 4096)), Ok((false, 4096)));
        assert_eq!(bytes(&remote, 0, 4).unwrap(), [0; 4]);
        assert!(!remote.news().iter().any(|news| matches!(news, News::Lost(_))));
    }
}

#[test]
fn an_export_that_comes_back_with_another_size_is_not_taken() {
    let known = KnownExport { size: BYTES / 2, flags: 1, minimum: 1, maximum: 32 << 20 };
    let plan = RemotePlan { known: Some(known), ..plan() };
    let clock = Rc::new(Still::default());
    let server = Server::new(honest()).run();
    let alone = nobody_else();
    let remote = Remote::begin(plan, server, false, clock, Rc::clone(&alone)).unwrap();
    finish(remote.known()).unwrap();
    assert_eq!(bytes(&remote, 0, 512), Err(Failure::IO));
    let (layer, why) = alone.missed().unwrap();
    assert!(layer == 0 && why.contains("not what it was"), "{why}");
}

#[test]
fn a_server_that_says_nothing_is_left_in_time() {
    let clock = Rc::new(Still::default());
    let (silent, _kept) = bulkhead_sys::seqpacket::stream_pair().unwrap();
    let remote =
        Remote::begin(plan(), silent, false, Rc::clone(&clock) as _, Rc::default()).unwrap();
    assert_eq!(remote.next_due(), Some(HANDSHAKE));
    clock.0.set(HANDSHAKE);
    remote.due(clock.now());
    let why = finish(remote.known()).unwrap_err().to_string();
    assert!(why.contains("did not finish its handshake"), "{why}");
}

/// One turn of the executor's loop.
fn turn(remote: &Remote, tasks: &mut Tasks) {
    let sockets = remote.sockets();
    let watched: Vec<_> = sockets.iter().map(|(socket, room)| Watch::new(socket, *room)).collect();
    wait_any(&watched, Some(Duration::from_millis(10))).unwrap();
    remote.pump();
    tasks.run();
}

/// Turns until there is such news.
fn drive(remote: &Remote, tasks: &mut Tasks, mut wanted: impl FnMut(&News) -> bool) {
    while !remote.news().iter().any(&mut wanted) {
        turn(remote, tasks);
    }
}
