use proptest::prelude::*;

use super::*;

fn fd() -> OwnedFd {
    bulkhead_sys::eventfd::Doorbell::new().unwrap().into_fd()
}

fn message(request: FrontendReq, body: &[u8], fds: usize) -> Message {
    let fds = (0..fds).map(|_| fd()).collect();
    Message { request: request.into(), need_reply: false, body: body.to_vec(), fds }
}

fn decode(request: FrontendReq, body: &[u8], fds: usize) -> Result<Request, WireFault> {
    Request::decode(message(request, body, fds))
}

#[test]
fn a_kick_without_a_descriptor_must_say_so() {
    let kick = FrontendReq::SET_VRING_KICK;
    let with = decode(kick, &3u64.to_ne_bytes(), 1).unwrap();
    assert!(matches!(with, Request::SetVringKick(3, Some(_))));
    let without = decode(kick, &0x102u64.to_ne_bytes(), 0).unwrap();
    assert!(matches!(without, Request::SetVringKick(2, None)));
    assert!(decode(kick, &3u64.to_ne_bytes(), 0).is_err());
    assert!(decode(kick, &0x102u64.to_ne_bytes(), 1).is_err());
    assert!(decode(kick, &0x200u64.to_ne_bytes(), 1).is_err());
}

#[test]
fn surplus_descriptors_are_a_fault_except_where_the_text_forgives_one() {
    assert!(decode(FrontendReq::SET_OWNER, &[], 0).is_ok());
    let surplus = decode(FrontendReq::SET_OWNER, &[], 1);
    assert!(matches!(surplus, Err(WireFault::Descriptors { found: 1, .. })));
    let region = VhostUserSingleMemoryRegion::new(0, 4096, 0, 0);
    assert!(decode(FrontendReq::REM_MEM_REG, region.as_slice(), 1).is_ok());
    assert!(decode(FrontendReq::REM_MEM_REG, region.as_slice(), 2).is_err());
    assert!(decode(FrontendReq::ADD_MEM_REG, region.as_slice(), 0).is_err());
}

#[test]
fn a_memory_table_has_as_many_regions_as_it_says_and_as_many_descriptors() {
    let region = VhostUserMemoryRegion::new(1, 2, 3, 4);
    let body = |count: u32, regions: usize| {
        let head = [count.to_ne_bytes(), [0; 4]].concat();
        [head, region.as_slice().repeat(regions)].concat()
    };
    let table = decode(FrontendReq::SET_MEM_TABLE, &body(2, 2), 2).unwrap();
    let Request::SetMemTable(regions) = table else { panic!("{table:?}") };
    let wanted = Region { guest_addr: 1, len: 2, user_addr: 3, file_offset: 4 };
    assert_eq!(regions.iter().map(|(region, _)| *region).collect::<Vec<_>>(), [wanted; 2]);
    for (count, regions, fds) in [(2, 1, 2), (1, 2, 1), (2, 2, 1), (u32::MAX, 2, 2), (0, 1, 0)] {
        assert!(decode(FrontendReq::SET_MEM_TABLE, &body(count, regions), fds).is_err());
    }
}

#[test]
fn an_inflight_shape_is_understood_with_and_without_its_padding() {
    let shape = VhostUserInflight::new(4096, 0, 2, 128);
    for len in [20, 24] {
        let wish = decode(FrontendReq::GET_INFLIGHT_FD, &shape.as_slice()[..len], 0).unwrap();
        let Request::GetInflightFd(found) = wish else { panic!("{wish:?}") };
        assert_eq!((found.queues, found.queue_size), (2, 128));
    }
    assert!(decode(FrontendReq::GET_INFLIGHT_FD, &shape.as_slice()[..19], 0).is_err());
    let none = VhostUserInflight::new(4096, 0, 0, 128);
    assert!(decode(FrontendReq::GET_INFLIGHT_FD, none.as_slice(), 0).is_err());
}

#[test]
fn a_log_has_a_length_and_a_descriptor() {
    let log = |len, offset| vhost::vhost_user::message::VhostUserLog::new(len, offset);
    let request = decode(FrontendReq::SET_LOG_BASE, log(4096, 8).as_slice(), 1).unwrap();
    let Request::SetLogBase(place, _) = request else { panic!("{request:?}") };
    assert_eq!(place, LogPlace { len: 4096, offset: 8 });
    assert!(decode(FrontendReq::SET_LOG_BASE, log(4096, 8).as_slice(), 0).is_err());
    assert!(decode(FrontendReq::SET_LOG_BASE, log(0, 8).as_slice(), 1).is_err());
    assert!(decode(FrontendReq::SET_LOG_BASE, log(2, u64::MAX).as_slice(), 1).is_err());
}

#[test]
fn requests_of_features_that_are_not_offered_are_not_understood() {
    for request in [
        FrontendReq::POSTCOPY_ADVISE,
        FrontendReq::IOTLB_MSG,
        FrontendReq::GET_SHARED_OBJECT,
        FrontendReq::SET_DEVICE_STATE_FD,
    ] {
        assert!(matches!(decode(request, &[0; 8], 0), Err(WireFault::Unknown(_))));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_a_fault(
        request in 0u32..50,
        body in prop::collection::vec(any::<u8>(), 0..400),
        fds in 0usize..4,
    ) {
        let fds = (0..fds).map(|_| fd()).collect();
        let _ = Request::decode(Message { request, need_reply: false, body, fds });
    }
}
