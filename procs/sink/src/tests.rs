//! The keeper over socket pairs, with the test in the place of device, viewers and supervisor.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bulkhead_sys::poller::Poller;
use bulkhead_sys::seqpacket;

use crate::history::{History, SLACK};
use crate::keeper::{Keeper, MOST_VIEWERS};

const KEPT: usize = 1000;

fn keeper() -> (Keeper, OwnedFd) {
    let (ours, device) = seqpacket::stream_pair().unwrap();
    (Keeper::new(Poller::new().unwrap(), ours, KEPT).unwrap(), device)
}

/// Handles what is there, until nothing is.
fn settle(keeper: &mut Keeper) {
    loop {
        keeper.show();
        let mut news = Vec::new();
        keeper.poller().wait(Some(Duration::ZERO), &mut news).unwrap();
        if news.is_empty() {
            return;
        }
        news.iter().for_each(|event| keeper.news(event));
    }
}

fn viewer(keeper: &mut Keeper) -> OwnedFd {
    let (ours, theirs) = seqpacket::stream_pair().unwrap();
    keeper.admit(theirs);
    settle(keeper);
    ours
}

/// Writes all of `bytes`, while the keeper does its part.
fn write(keeper: &mut Keeper, to: &OwnedFd, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Ok(sent) = seqpacket::send_some(to.as_fd(), rest, &[]) {
            rest = &rest[sent..];
        }
        settle(keeper);
    }
}

/// All that can be read now.
fn read(from: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(datagram) = seqpacket::receive(from.as_fd(), &mut buffer) {
        if datagram.len == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..datagram.len]);
    }
    all
}

fn is_closed(socket: &OwnedFd) -> bool {
    read(socket);
    matches!(seqpacket::receive(socket.as_fd(), &mut [0; 1]), Ok(datagram) if datagram.len == 0)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 251) as u8).collect()
}

#[test]
fn a_viewer_sees_what_was_kept_and_then_what_follows() {
    let (mut keeper, device) = keeper();
    write(&mut keeper, &device, b"before ");
    let viewer = viewer(&mut keeper);
    write(&mut keeper, &device, b"after");
    assert_eq!(read(&viewer), b"before after");
    assert_eq!(keeper.seen(), 12);
}

#[test]
fn of_a_long_past_exactly_the_last_bytes_are_kept() {
    let (mut keeper, device) = keeper();
    let all = pattern(3 * SLACK);
    write(&mut keeper, &device, &all);
    let viewer = viewer(&mut keeper);
    assert_eq!(read(&viewer), &all[all.len() - KEPT..]);
}

#[test]
fn a_device_is_never_made_to_wait_and_a_viewer_that_reads_nothing_is_dropped() {
    let (mut keeper, device) = keeper();
    let slow = viewer(&mut keeper);
    let good = viewer(&mut keeper);
    let all = pattern(1 << 20);
    let mut seen = Vec::new();
    for piece in all.chunks(8192) {
        write(&mut keeper, &device, piece);
        seen.extend(read(&good));
    }
    assert_eq!(seen, all);
    assert_eq!((keeper.viewers(), keeper.seen()), (1, all.len() as u64));
    assert!(is_closed(&slow));
}

#[test]
fn a_viewer_that_falls_behind_a_little_misses_nothing() {
    let (mut keeper, device) = keeper();
    let viewer = viewer(&mut keeper);
    let all = pattern(SLACK);
    write(&mut keeper, &device, &all);
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let more = read(&viewer);
        assert!(!more.is_empty());
        seen.extend(more);
        settle(&mut keeper);
    }
    assert_eq!(seen, all);
}

#[test]
fn what_viewers_type_reaches_the_device() {
    let (mut keeper, device) = keeper();
    let (one, two) = (viewer(&mut keeper), viewer(&mut keeper));
    write(&mut keeper, &one, b"a");
    write(&mut keeper, &two, b"b");
    assert_eq!(read(&device), b"ab");
}

#[test]
fn input_of_a_viewer_that_leaves_at_once_still_arrives() {
    let (mut keeper, device) = keeper();
    let viewer = viewer(&mut keeper);
    seqpacket::send(viewer.as_fd(), b"poweroff\n", &[]).unwrap();
    drop(viewer);
    settle(&mut keeper);
    assert_eq!(read(&device), b"poweroff\n");
    assert_eq!(keeper.viewers(), 0);
}

#[test]
fn input_for_a_device_that_reads_nothing_stays_with_the_viewer_and_arrives_whole() {
    let (mut keeper, device) = keeper();
    let viewer = viewer(&mut keeper);
    let typed = pattern(1 << 20);
    let mut rest = typed.as_slice();
    while let Ok(sent) = seqpacket::send_some(viewer.as_fd(), rest, &[]) {
        rest = &rest[sent..];
        settle(&mut keeper);
    }
    let accepted = typed.len() - rest.len();
    assert!(accepted < typed.len(), "nothing bounds the input");
    let mut arrived = Vec::new();
    while arrived.len() < accepted {
        let more = read(&device);
        assert!(!more.is_empty());
        arrived.extend(more);
        settle(&mut keeper);
    }
    assert_eq!(arrived, typed[..accepted]);
}

#[test]
fn a_new_stream_goes_on_where_the_old_one_ended() {
    let (mut keeper, device) = keeper();
    let viewer = viewer(&mut keeper);
    seqpacket::send(device.as_fd(), b"last words ", &[]).unwrap();
    drop(device);
    settle(&mut keeper);
    seqpacket::send(viewer.as_fd(), b"typed meanwhile", &[]).unwrap();
    settle(&mut keeper);
    let (ours, device) = seqpacket::stream_pair().unwrap();
    keeper.replace_stream(ours).unwrap();
    write(&mut keeper, &device, b"hello again");
    assert_eq!(read(&viewer), b"last words hello again");
    assert_eq!(read(&device), b"typed meanwhile");
}

#[test]
fn a_stream_of_which_the_supervisor_keeps_a_duplicate_ends_all_the_same() {
    let (ours, device) = seqpacket::stream_pair().unwrap();
    let kept = ours.try_clone().unwrap();
    let mut keeper = Keeper::new(Poller::new().unwrap(), ours, KEPT).unwrap();
    drop(device);
    settle(&mut keeper);
    let mut news = Vec::new();
    keeper.poller().wait(Some(Duration::ZERO), &mut news).unwrap();
    assert_eq!(news, []);
    drop(kept);
}

#[test]
fn one_viewer_too_many_takes_the_place_of_the_first() {
    let (mut keeper, device) = keeper();
    let crowd: Vec<OwnedFd> = (0..=MOST_VIEWERS).map(|_| viewer(&mut keeper)).collect();
    assert_eq!(keeper.viewers(), MOST_VIEWERS);
    write(&mut keeper, &device, b"x");
    assert!(is_closed(&crowd[0]));
    assert!(crowd[1..].iter().all(|viewer| read(viewer) == b"x"));
}

#[test]
fn a_position_that_is_no_longer_kept_has_no_piece() {
    let mut history = History::new(10);
    history.append(&pattern(SLACK + 11));
    assert_eq!(history.piece(0), None);
    assert_eq!(history.piece(1), Some(&pattern(SLACK + 11)[1..SLACK + 10]));
    assert_eq!(history.piece(history.end()), Some(&[][..]));
    assert_eq!(history.piece(history.end() + 1), None);
    assert_eq!(history.opening(), history.end() - 10);
}
