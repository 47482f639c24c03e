use super::*;

fn add(world: &mut World) {
    world.driver.add(&[Segment::read(DATA, 1), Segment::write(DATA, 1)]).unwrap();
}

/// A process that takes what there is and dies.
fn die_with_all(world: &World, own_fault: bool) -> Vec<Taken> {
    let mut queue = LiveQueue::start(world.start(own_fault)).unwrap();
    std::iter::from_fn(|| take(&mut queue)).map(|(taken, _)| taken).collect()
}

#[test]
fn three_deaths_in_a_row_make_a_request_poison() {
    for packed in [false, true] {
        let mut world = World::new(4, packed);
        add(&mut world);
        for own_fault in [false, true, true] {
            let taken = die_with_all(&world, own_fault);
            assert!(matches!(taken[..], [Taken::Request(_)]), "packed {packed}");
        }
        let mut queue = LiveQueue::start(world.start(true)).unwrap();
        let Some((Taken::Poison(token), chain)) = take(&mut queue) else { panic!("not poison") };
        assert_eq!(chain.writable.len(), 1, "there is a place for the error");
        queue.refuse(token, 1);
        queue.flush();
        assert_eq!(queue.take_poisoned(), 1);
        assert_eq!(queue.take_completed(), 0, "a refusal is no progress");
        assert_eq!(world.driver.poll().map(|used| used.written), Some(1));
        assert!(take(&mut queue).is_none());
    }
}

#[test]
fn kills_from_outside_never_count() {
    let mut world = World::new(4, false);
    add(&mut world);
    for _ in 0..20 {
        assert!(matches!(die_with_all(&world, false)[..], [Taken::Request(_)]));
    }
}

#[test]
fn progress_sets_all_counts_back() {
    for packed in [false, true] {
        let mut world = World::new(4, packed);
        add(&mut world);
        die_with_all(&world, false);
        die_with_all(&world, true);
        die_with_all(&world, true);
        // The third death would be the last, but this life completes another request.
        add(&mut world);
        let mut queue = LiveQueue::start(world.start(false)).unwrap();
        let _suspect = take(&mut queue).unwrap();
        let (other, _) = take(&mut queue).unwrap();
        queue.complete(token(other), 0);
        queue.flush();
        drop(queue);
        assert!(matches!(die_with_all(&world, true)[..], [Taken::Request(_)]));
    }
}

#[test]
fn a_request_that_kills_whoever_reads_it_is_given_back_unread() {
    for packed in [false, true] {
        let mut world = World::new(4, packed);
        add(&mut world);
        die_with_all(&world, false);
        for _ in 0..4 {
            // Dies before or while it takes the request.
            drop(LiveQueue::start(world.start(true)).unwrap());
        }
        let mut queue = LiveQueue::start(world.start(true)).unwrap();
        assert!(take(&mut queue).is_none());
        queue.flush();
        assert_eq!(queue.take_poisoned(), 1);
        assert_eq!(world.driver.poll().map(|used| used.written), Some(0));
    }
}

#[test]
fn deaths_of_the_service_behind_count_too() {
    let mut world = World::new(4, false);
    add(&mut world);
    let mut queue = world.queue();
    let (taken, _) = take(&mut queue).unwrap();
    assert!(!queue.count_attempt(token(taken)));
    assert!(!queue.count_attempt(token(taken)));
    assert!(queue.count_attempt(token(taken)));
}
