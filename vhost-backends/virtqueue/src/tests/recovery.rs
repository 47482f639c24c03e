//! Queues that a successor takes up.

use super::*;

#[test]
fn a_successor_takes_up_a_split_chain_by_its_head_and_goes_on_behind_it() {
    let (memory, _fd) = ram(RAM);
    let setup = setup(8, true);
    let mut driver = SplitDriver::new(&memory, setup);
    let first = driver.add(&[Segment::read(DATA, 5)]).unwrap();
    let second = driver.add(&[Segment::write(DATA, 6)]).unwrap();
    let mut successor =
        SplitQueue::new(&memory, &setup, SplitPosition { available: 1, used: 0 }).unwrap();
    let mut chain = Chain::default();
    successor.take_again(&memory, first, &mut chain).unwrap();
    assert_eq!((chain.id(), chain.readable.len()), (first, 5));
    assert!(successor.take(&memory, &mut chain).unwrap());
    assert_eq!((chain.id(), chain.writable.len()), (second, 6));
    successor.give_back(first, 0).unwrap();
    assert_eq!(successor.used_in_memory(), Ok(0), "not seen before it is published");
    assert_eq!(successor.publish(), Ok(1));
    assert_eq!(driver.poll(), Some(Used { id: first, written: 0 }));
    assert_eq!(
        successor.take_again(&memory, second, &mut chain),
        Err(QueueFault::InFlight(second))
    );
}

#[test]
fn a_successor_takes_up_a_packed_chain_from_copies() {
    let (memory, _fd) = ram(RAM);
    let setup = setup(5, true);
    let mut pair = Pair::new(&memory, setup, true);
    let segments = [Segment::read(DATA, 5), Segment::write(DATA + 64, 6)];
    let id = pair.add(&segments).unwrap();
    let mut chain = Chain::default();
    assert!(pair.take(&memory, &mut chain).unwrap());
    let copies = chain.ring().to_vec();
    assert_eq!(copies.len(), 2);
    let Pair::Packed(mut driver, _dead) = pair else { unreachable!() };
    let (available, used) = (PackedPosition { index: 2, wrap: true }, PackedPosition::START);
    let mut successor = PackedQueue::new(&memory, &setup, available, used).unwrap();
    assert!(successor.is_available(used).unwrap());
    let mut again = Chain::default();
    successor.take_again(&memory, &copies, &mut again).unwrap();
    assert_is(&again, &segments);
    assert_eq!((again.id(), again.slots()), (id, 2));
    successor.give_back(again.id(), again.slots(), 6).unwrap();
    assert!(!successor.is_available(used).unwrap());
    assert_eq!(driver.poll(), Some(Used { id, written: 6 }));
}

#[test]
fn copies_that_are_no_chain_are_refused() {
    let (memory, _fd) = ram(RAM);
    let at = PackedPosition::START;
    let mut queue = PackedQueue::new(&memory, &setup(4, true), at, at).unwrap();
    let mut chain = Chain::default();
    let next = crate::PackedDescriptor::new(DATA, 1, 0, 1);
    let last = crate::PackedDescriptor::new(DATA, 1, 0, 0);
    for copies in [&[][..], &[next], &[last, last], &[next, next, next, next, last]] {
        assert!(queue.take_again(&memory, copies, &mut chain).is_err(), "{} copies", copies.len());
    }
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn a_chain_that_was_put_back_is_taken_again() {
    for packed in [false, true] {
        let (memory, _fd) = ram(RAM);
        let mut pair = Pair::new(&memory, setup(3 + u16::from(!packed), true), packed);
        let mut chain = Chain::default();
        for _ in 0..5 {
            let segments = [Segment::read(DATA, 5), Segment::write(DATA, 6)];
            let id = pair.add(&segments).unwrap();
            assert!(pair.take(&memory, &mut chain).unwrap());
            match &mut pair {
                Pair::Split(_, queue) => queue.untake(chain.id()),
                Pair::Packed(_, queue) => queue.untake(chain.slots()),
            }
            assert_eq!(pair.in_flight(), 0);
            assert!(pair.take(&memory, &mut chain).unwrap());
            assert_is(&chain, &segments);
            pair.give_back(&chain, 6);
            assert_eq!(pair.poll(), Some(Used { id, written: 6 }));
        }
    }
}
