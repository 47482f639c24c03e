use super::*;

/// Starts a queue on a table of such bytes and serves it for a while.
fn survive(world: &World, bytes: &[u8]) -> bool {
    world.scribble(0, bytes);
    let Ok(mut queue) = LiveQueue::start(world.start(true)) else { return false };
    for _ in 0..2 * world.setup.size {
        let Some((taken, _)) = take(&mut queue) else { break };
        queue.complete(token(taken), 0);
    }
    queue.flush();
    queue.rest();
    true
}

/// A header that is nearly right, and entries that are nearly entries.
fn table(size: u16) -> impl Strategy<Value = Vec<u8>> {
    let odd = move || prop_oneof![4 => 0..size, 1 => Just(size), 1 => any::<u16>()];
    let header = (odd(), odd(), odd(), odd(), 0u8..2, 0u8..2);
    let entry = (0u8..3, odd(), odd(), odd(), any::<u64>(), any::<[u8; 16]>());
    (header, prop::collection::vec(entry, usize::from(size))).prop_map(move |(header, entries)| {
        let mut bytes = vec![0; 8];
        bytes.extend(1u16.to_ne_bytes());
        bytes.extend(size.to_ne_bytes());
        for word in [header.0, header.1, header.2, header.3] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([header.4, header.5]);
        bytes.resize(32, 0);
        for (inflight, next, last, count, counter, rest) in entries {
            bytes.extend([inflight, 0]);
            for word in [next, last, count] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(counter.to_ne_bytes());
            bytes.extend(rest);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_table_full_of_nonsense_is_refused_or_harmless(
        packed: bool,
        bytes in prop_oneof![table(8), prop::collection::vec(any::<u8>(), 0..256)],
        requests in 0usize..4,
    ) {
        let mut world = World::new(8, packed);
        for _ in 0..requests {
            world.driver.add(&[Segment::read(DATA, 3), Segment::write(DATA, 3)]);
        }
        survive(&world, &bytes);
    }
}

#[test]
fn loops_wild_links_and_wrong_sums_are_named() {
    let start = |patch: &[(usize, u16)]| {
        let mut world = World::new(4, true);
        world.driver.add(&[Segment::read(DATA, 1), Segment::read(DATA, 2)]).unwrap();
        take(&mut world.queue()).unwrap();
        for (offset, value) in patch {
            world.scribble(*offset, &value.to_ne_bytes());
        }
        LiveQueue::start(world.start(false)).map(drop).map_err(|fault| fault.to_string())
    };
    let entry = |index: usize, field: usize| 32 + 32 * index + field;
    const NEXT: usize = 2;
    const LAST: usize = 4;
    const COUNT: usize = 6;
    assert_eq!(start(&[]), Ok(()));
    let wild = "entry 2 of the in-flight table is linked where it cannot be";
    assert_eq!(start(&[(entry(3, NEXT), 2)]), Err(wild.into()), "the free list loops");
    let wild = "entry 7 of the in-flight table is linked where it cannot be";
    assert_eq!(start(&[(entry(0, NEXT), 7)]), Err(wild.into()));
    let wild = "entry 0 of the in-flight table is nonsense";
    assert_eq!(start(&[(entry(0, LAST), 3)]), Err(wild.into()));
    assert_eq!(start(&[(entry(0, COUNT), 5)]), Err(wild.into()));
    assert_eq!(start(&[(entry(0, COUNT), 0)]), Err(wild.into()));
    let sum = "2 free entries and 1 in flight in a table of 4";
    assert_eq!(start(&[(entry(0, COUNT), 1), (entry(0, LAST), 0)]), Err(sum.into()));
    assert!(start(&[(8, 2)]).unwrap_err().contains("version 2"));
    assert!(start(&[(10, 8)]).unwrap_err().contains("8 entries for a queue of 4"));
}

#[test]
fn counters_at_their_end_keep_their_order() {
    let mut world = World::new(4, false);
    for len in 1..=3 {
        world.driver.add(&[Segment::read(DATA, len)]).unwrap();
    }
    let mut queue = world.queue();
    while take(&mut queue).is_some() {}
    drop(queue);
    for (head, counter) in [(0usize, u64::MAX), (1, u64::MAX - 1), (2, u64::MAX - 2)] {
        world.scribble(16 + 16 * head + 8, &counter.to_ne_bytes());
    }
    let mut queue = world.queue();
    let order: Vec<u64> =
        std::iter::from_fn(|| take(&mut queue)).map(|(_, chain)| chain.readable.len()).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn a_queue_larger_than_the_table_is_refused() {
    let mut world = World::new(8, false);
    world.table = create_sealed("inflight", table_size(1, 4)).unwrap();
    let plan = QueuePlan { queues: 1, queue_size: 4, own_fault: false };
    let table = InflightTable::map(plan, world.table.try_clone().unwrap()).unwrap();
    let start = QueueStart { table: Some(Arc::new(table)), ..world.start(false) };
    assert!(matches!(LiveQueue::start(start), Err(StartFault::Table(_))));
}

#[test]
fn a_broken_queue_is_served_no_more_and_tells_once() {
    let world = World::new(4, false);
    let err = Doorbell::new().unwrap();
    let start = QueueStart { err: Some(err.try_clone().unwrap()), ..world.start(false) };
    let mut queue = LiveQueue::start(start).unwrap();
    let index = GuestRange::new(world.setup.addresses.driver + 2, 2);
    world.memory.check(index).unwrap().write_obj(0, 1000u16).unwrap();
    assert!(take(&mut queue).is_none());
    assert!(err.clear() && queue.take_fault().is_some() && queue.take_fault().is_none());
    world.memory.check(index).unwrap().write_obj(0, 1u16).unwrap();
    assert!(take(&mut queue).is_none() && !queue.rest());
    queue.stop();
    assert_eq!(queue.stopped(), Some(0));
}
