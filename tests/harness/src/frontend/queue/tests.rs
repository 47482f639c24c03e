//! Queues against a device that lives in the same thread and completes what it is told to.

use std::sync::atomic::Ordering;

use super::super::memory::{Memory, Place};
use super::*;

/// The device's side of a ring, as naive as can be.
struct Device {
    memory: std::sync::Arc<bulkhead_sys::mapping::SharedMapping>,
    place: Place,
    size: usize,
    seen: u16,
    used: u16,
}

impl Device {
    fn new(options: &Options) -> (Self, Queue) {
        let (memory, places) = Memory::new(options).unwrap();
        let bell = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let ring =
            Ring::new(memory.mapping.clone(), places[0], options.queue_size, options.event_idx);
        let queue = Queue::new(ring, options, bell(), bell()).unwrap();
        let size = usize::from(options.queue_size);
        (Self { memory: memory.mapping, place: places[0], size, seen: 0, used: 0 }, queue)
    }

    fn word(&self, at: usize) -> u16 {
        self.memory.atomic_u16(at).unwrap().load(Ordering::Acquire)
    }

    /// The next available head.
    fn take(&mut self) -> Option<u16> {
        if self.word(self.place.available + 2) == self.seen {
            return None;
        }
        let head = self.word(self.place.available + 4 + 2 * (usize::from(self.seen) % self.size));
        self.seen = self.seen.wrapping_add(1);
        Some(head)
    }

    fn complete(&mut self, head: u32) {
        let at = self.place.used + 4 + 8 * (usize::from(self.used) % self.size);
        self.memory.atomic_u32(at).unwrap().store(head, Ordering::Relaxed);
        self.memory.atomic_u32(at + 4).unwrap().store(1, Ordering::Relaxed);
        self.used = self.used.wrapping_add(1);
        self.set_used_index(self.used);
    }

    fn set_used_index(&self, index: u16) {
        self.memory.atomic_u16(self.place.used + 2).unwrap().store(index, Ordering::Release);
    }
}

fn options() -> Options {
    Options { queue_size: 8, buffer: 4096, ..Options::new(1, 4) }
}

#[test]
fn requests_go_round_the_ring_and_past_the_end_of_its_indices() {
    let (mut device, mut queue) = Device::new(&options());
    let mut completed = 0u32;
    while completed < 70_000 {
        while queue.outstanding() < 2 {
            queue.submit(Request::Read { sector: 0, len: 512 }, &Layout::PLAIN).unwrap();
        }
        let (first, second) = (device.take().unwrap(), device.take().unwrap());
        device.complete(second.into());
        device.complete(first.into());
        while let Some(done) = queue.poll().unwrap() {
            assert_eq!(done.status, Status::Missing, "nobody wrote a status");
            completed += 1;
        }
    }
    assert_eq!(queue.outstanding(), 0);
}

#[test]
fn a_full_queue_says_so_and_takes_requests_again_after_a_completion() {
    let (mut device, mut queue) = Device::new(&options());
    let flush = |queue: &mut Queue| queue.submit(Request::Flush, &Layout::PLAIN);
    for _ in 0..4 {
        flush(&mut queue).unwrap();
    }
    assert!(matches!(flush(&mut queue), Err(QueueError::Full)));
    let head = device.take().unwrap();
    device.complete(head.into());
    let slot = queue.poll().unwrap().unwrap().slot;
    assert!(!queue.is_in_flight(slot));
    assert_eq!(flush(&mut queue).unwrap(), slot);
    assert!(queue.is_in_flight(slot));
}

#[test]
fn a_request_completed_twice_is_an_error() {
    let (mut device, mut queue) = Device::new(&options());
    for _ in 0..2 {
        queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
    }
    let head = device.take().unwrap();
    device.complete(head.into());
    device.complete(head.into());
    assert!(queue.poll().unwrap().is_some());
    assert!(matches!(queue.poll(), Err(QueueError::NotInFlight(_))));
}

#[test]
fn a_head_that_does_not_exist_is_an_error() {
    let (mut device, mut queue) = Device::new(&options());
    queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
    device.complete(u32::MAX);
    assert!(matches!(queue.poll(), Err(QueueError::NotInFlight(u32::MAX))));
}

#[test]
fn a_used_index_that_jumps_is_an_error() {
    let (device, mut queue) = Device::new(&options());
    queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
    device.set_used_index(2);
    assert!(matches!(queue.poll(), Err(QueueError::IndexJump { said: 2, outstanding: 1 })));
}

#[test]
fn kicks_are_spared_while_the_device_does_not_want_them() {
    for event_idx in [false, true] {
        let (device, mut queue) = Device::new(&Options { event_idx, ..options() });
        let mut kicked = || {
            queue.submit(Request::Flush, &Layout::INDIRECT).unwrap();
            queue.kick()
        };
        assert!(kicked());
        let (at, value) = match event_idx {
            true => (device.place.used + 4 + 8 * device.size, 2),
            false => (device.place.used, 1),
        };
        device.memory.atomic_u16(at).unwrap().store(value, Ordering::Release);
        assert!(!kicked(), "the device is awake");
        assert_eq!(kicked(), event_idx, "the third is the one that the event index names");
    }
}

#[test]
fn a_wait_that_is_over_says_that_nothing_came() {
    let (_device, mut queue) = Device::new(&options());
    queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
    assert!(queue.wait(Duration::from_millis(2)).unwrap().is_none());
}

#[test]
fn what_does_not_fit_a_slot_is_refused_and_costs_nothing() {
    let (_device, mut queue) = Device::new(&options());
    let long = Request::Read { sector: 0, len: 4097 };
    assert!(matches!(queue.submit(long, &Layout::PLAIN), Err(QueueError::TooLong(4097))));
    let many = Layout::every(1);
    let read = Request::Read { sector: 0, len: 4096 };
    assert!(matches!(queue.submit(read, &many), Err(QueueError::TooLong(_))));
    assert_eq!(queue.outstanding(), 0);
    for _ in 0..4 {
        queue.submit(Request::Flush, &Layout::PLAIN).unwrap();
    }
}
