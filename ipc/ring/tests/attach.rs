//! Making and mapping rings: only the planned object is accepted.
#![cfg(not(loom))]

mod entries;

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_ring::{AttachError, Client, HeaderFault, RingGeometry, Server, create};
use bulkhead_sys::mapping::{Rights, SharedMapping};
use bulkhead_sys::memfd::{SealError, create_sealed, verify_sealed};
use entries::{Completion, Request};

fn geometry() -> RingGeometry {
    RingGeometry::new(8, 16384).unwrap()
}

fn attach(fd: &OwnedFd, geometry: RingGeometry, incarnation: u64) -> Result<(), AttachError> {
    Client::<Request, Completion>::attach(fd, geometry, incarnation)?;
    Server::<Request, Completion>::attach(fd, geometry, incarnation)?;
    Ok(())
}

#[test]
fn a_new_ring_is_sealed_at_its_planned_length_and_both_ends_map_it() {
    let fd = create(geometry(), 3).unwrap();
    verify_sealed(fd.as_fd(), geometry().object_len()).unwrap();
    attach(&fd, geometry(), 3).unwrap();
}

#[test]
fn a_ring_of_another_incarnation_or_size_is_refused() {
    let fd = create(geometry(), 3).unwrap();
    let stale = attach(&fd, geometry(), 4).unwrap_err();
    assert!(matches!(
        stale,
        AttachError::Header(HeaderFault::Incarnation { found: 3, planned: 4 })
    ));
    let smaller = RingGeometry::new(4, 16384).unwrap();
    assert!(matches!(
        attach(&fd, smaller, 3).unwrap_err(),
        AttachError::Header(HeaderFault::Geometry { entries: 8, .. })
    ));
    let larger = RingGeometry::new(8, 32768).unwrap();
    assert!(matches!(
        attach(&fd, larger, 3).unwrap_err(),
        AttachError::Seal(SealError::TooShort { .. })
    ));
}

#[test]
fn a_header_that_lies_about_its_size_changes_no_bound() {
    let fd = create(geometry(), 3).unwrap();
    let evil = SharedMapping::map(&fd, 4096, Rights::ReadWrite).unwrap();
    let client = Client::<Request, Completion>::attach(&fd, geometry(), 3).unwrap();
    evil.copy_out(0, &[0xff; 64]).unwrap();
    assert_eq!(client.arena.len(), 16384);
    assert!(client.arena.check(16384, 1).is_err());
    assert!(matches!(
        attach(&fd, geometry(), 3).unwrap_err(),
        AttachError::Header(HeaderFault::Magic(u64::MAX))
    ));
}

#[test]
fn an_unsealed_or_foreign_object_is_refused() {
    let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
    assert!(matches!(attach(&file, geometry(), 3), Err(AttachError::Seal(SealError::NotSealable))));
    let blank = create_sealed("blank", geometry().object_len()).unwrap();
    assert!(matches!(
        attach(&blank, geometry(), 3),
        Err(AttachError::Header(HeaderFault::Magic(0)))
    ));
}

#[test]
fn the_careful_answer_about_cpus_stands_until_both_have_spoken() {
    let fd = create(geometry(), 1).unwrap();
    let mut client = Client::<Request, Completion>::attach(&fd, geometry(), 1).unwrap();
    let mut server = Server::<Request, Completion>::attach(&fd, geometry(), 1).unwrap();
    assert!(client.cpus.shared(1), "nothing is known of the server");
    assert!(!server.cpus.shared(0));
    assert!(!client.cpus.shared(1));
    assert!(client.cpus.shared(0));
    assert!(server.cpus.shared(0));
}
