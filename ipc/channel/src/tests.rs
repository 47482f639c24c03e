use std::os::fd::AsFd;
use std::time::Duration;

use bulkhead_sys::clock::Deadline;
use bulkhead_sys::seqpacket;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Channel, ChannelError, Message, codec};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Test {
    Number(u64),
    Text(String),
    WithFds(u32),
}

impl Message for Test {
    fn fd_count(&self) -> usize {
        match self {
            Self::WithFds(count) => *count as usize,
            _ => 0,
        }
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

#[test]
fn a_message_and_its_descriptors_arrive() {
    let (a, b) = Channel::pair().unwrap();
    let bell = bulkhead_sys::eventfd::Doorbell::new().unwrap();
    a.send(&Test::WithFds(2), &[bell.as_fd(), bell.as_fd()]).unwrap();
    let (message, fds) = b.receive_by::<Test>(soon()).unwrap();
    assert_eq!((message, fds.len()), (Test::WithFds(2), 2));
}

#[test]
fn the_wrong_number_of_descriptors_blames_the_peer() {
    let (a, b) = Channel::pair().unwrap();
    let bell = bulkhead_sys::eventfd::Doorbell::new().unwrap();
    let bytes = codec::encode(&Test::Number(1)).unwrap();
    seqpacket::send(a.as_fd(), &bytes, &[bell.as_fd()]).unwrap();
    let error = b.receive_by::<Test>(soon()).unwrap_err();
    assert!(matches!(error, ChannelError::Descriptors { found: 1, expected: 0 }));
}

#[test]
fn sending_the_wrong_number_of_descriptors_is_refused_here_already() {
    let (a, _b) = Channel::pair().unwrap();
    assert!(a.send(&Test::WithFds(1), &[]).is_err());
}

#[test]
fn more_descriptors_than_a_message_carries_are_refused_here_already() {
    let (a, b) = Channel::pair().unwrap();
    let bell = bulkhead_sys::eventfd::Doorbell::new().unwrap();
    let most = seqpacket::MAX_FDS;
    let many = vec![bell.as_fd(); most + 1];
    let error = a.send(&Test::WithFds(most as u32 + 1), &many).unwrap_err();
    assert!(error.is_of_the_message() && error.to_string().contains("129"), "{error}");
    a.send(&Test::WithFds(most as u32), &many[1..]).unwrap();
    let (_, fds) = b.receive_by::<Test>(soon()).unwrap();
    assert_eq!(fds.len(), most);
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = codec::encode(&Test::Number(1)).unwrap();
    bytes.push(0);
    assert!(codec::decode::<Test>(&bytes).is_err());
}

#[test]
fn a_length_field_that_lies_allocates_nothing() {
    let mut bytes = codec::encode(&Test::Text(String::new())).unwrap();
    let at = bytes.len() - 8;
    bytes[at..].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(codec::decode::<Test>(&bytes).is_err());
}

#[test]
fn a_closed_peer_is_told_apart_from_silence() {
    let (a, b) = Channel::pair().unwrap();
    assert!(b.try_receive::<Test>().unwrap().is_none());
    let silence = b.receive_by::<Test>(Deadline::after(Duration::from_millis(2)));
    assert!(matches!(silence, Err(ChannelError::Deadline)));
    drop(a);
    assert!(matches!(b.try_receive::<Test>(), Err(ChannelError::Closed)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_decode_or_fail_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = codec::decode::<Test>(&bytes);
    }
}
