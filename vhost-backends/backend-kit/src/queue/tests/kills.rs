use super::*;

/// One step of driver or device.
#[derive(Debug, Clone)]
enum Step {
    Add { descriptors: usize },
    Take,
    Complete { which: usize },
    Flush,
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..4).prop_map(|descriptors| Step::Add { descriptors }),
        4 => Just(Step::Take),
        4 => any::<usize>().prop_map(|which| Step::Complete { which }),
        2 => Just(Step::Flush),
        2 => Just(Step::Poll),
    ]
}

/// What the test knows of every request, by the number that its first descriptor's length is.
#[derive(Default)]
struct Book {
    added: u32,
    /// Number of each request in flight, by its id.
    open: BTreeMap<u16, u32>,
    answered: Vec<u32>,
}

impl Book {
    fn add(&mut self, driver: &mut Driver, descriptors: usize) {
        let number = self.added + 1;
        let mut segments = vec![Segment::read(DATA, 1); descriptors];
        segments[0].len = number;
        if let Some(id) = driver.add(&segments) {
            self.added = number;
            self.open.insert(id, number);
        }
    }

    fn poll(&mut self, driver: &mut Driver) -> bool {
        let Some(used) = driver.poll() else { return false };
        let number = self.open.remove(&used.id).unwrap();
        assert_eq!(used.written, number, "the answer belongs to the request");
        self.answered.push(number);
        true
    }

    /// A request that the driver got back must never be served again: its blocks may have been
    /// written anew.
    fn assert_open(&self, number: u32) {
        assert!(
            self.open.values().any(|open| *open == number),
            "{number} is served after its answer"
        );
    }
}

fn number(chain: &Chain) -> u32 {
    chain.readable.ranges()[0].len as u32
}

/// One process: does the steps it gets until it is killed.
fn live(world: &mut World, book: &mut Book, steps: &mut VecDeque<Step>) {
    let mut queue = world.queue();
    let mut held: Vec<(Token, u32)> = Vec::new();
    while let Some(step) = steps.pop_front() {
        match step {
            Step::Add { descriptors } => book.add(&mut world.driver, descriptors),
            Step::Take => {
                if let Some((taken, chain)) = take(&mut queue) {
                    book.assert_open(number(&chain));
                    held.push((token(taken), number(&chain)));
                }
            }
            Step::Complete { which } if !held.is_empty() => {
                let (token, number) = held.swap_remove(which % held.len());
                queue.complete(token, number);
            }
            Step::Complete { .. } => {}
            Step::Flush => queue.flush(),
            Step::Poll => {
                book.poll(&mut world.driver);
            }
        }
    }
}

/// The last process: replays come in the order in which they were taken, everything is answered.
fn finish(world: &mut World, book: &mut Book) {
    let mut queue = world.queue();
    let mut before = 0;
    while let Some((taken, chain)) = take(&mut queue) {
        let number = number(&chain);
        book.assert_open(number);
        assert!(number > before, "{number} is taken after {before}");
        before = number;
        queue.complete(token(taken), number);
    }
    queue.flush();
    while book.poll(&mut world.driver) {}
    assert!(book.open.is_empty(), "never answered: {:?}", book.open);
    book.answered.sort_unstable();
    assert_eq!(book.answered, (1..=book.added).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_is_answered_once_whenever_processes_die(
        packed: bool,
        size in prop::sample::select(vec![1u16, 2, 4, 8]),
        steps in prop::collection::vec(step(), 0..120),
        lives in prop::collection::vec(0u32..120, 0..12),
    ) {
        let mut world = World::new(size, packed);
        let mut book = Book::default();
        let mut steps = VecDeque::from(steps);
        for places in lives {
            death::after(places, || live(&mut world, &mut book, &mut steps));
        }
        live(&mut world, &mut book, &mut steps);
        finish(&mut world, &mut book);
    }
}

/// Every single place of a short life, for both kinds, with a batch of answers in the middle.
#[test]
fn no_place_to_die_loses_or_repeats_a_request() {
    for packed in [false, true] {
        for size in [4, 5].into_iter().filter(|size| packed || *size == 4) {
            for places in 0..400 {
                let script = [
                    Step::Add { descriptors: 1 },
                    Step::Add { descriptors: 2 },
                    Step::Take,
                    Step::Take,
                    Step::Complete { which: 1 },
                    Step::Complete { which: 0 },
                    Step::Flush,
                    Step::Poll,
                    Step::Add { descriptors: 2 },
                    Step::Take,
                    Step::Poll,
                    Step::Add { descriptors: 2 },
                    Step::Take,
                    Step::Complete { which: 0 },
                    Step::Flush,
                    Step::Take,
                ];
                let mut world = World::new(size, packed);
                let mut book = Book::default();
                let mut steps = VecDeque::from(script);
                death::after(places, || live(&mut world, &mut book, &mut steps));
                // A second death while the table is being read.
                death::after(places % 7, || live(&mut world, &mut book, &mut VecDeque::new()));
                live(&mut world, &mut book, &mut steps);
                finish(&mut world, &mut book);
            }
        }
    }
}

#[test]
fn entry_0_survives_a_death_before_the_first_answer_of_a_ring_that_was_used_before() {
    let mut world = World::new(4, false);
    let mut book = Book::default();
    let mut queue = world.queue();
    for _ in 0..3 {
        book.add(&mut world.driver, 1);
        let (taken, chain) = take(&mut queue).unwrap();
        queue.complete(token(taken), number(&chain));
        queue.flush();
        assert!(book.poll(&mut world.driver));
    }
    drop(queue);
    // The next start gets a fresh table, but the ring is at used index 3.
    world.table().reset();
    let start = || QueueStart { base: 3, ..world.start(false) };
    let mut queue = LiveQueue::start(start()).unwrap();
    let mut open = Vec::new();
    for _ in 0..4 {
        book.add(&mut world.driver, 1);
    }
    while let Some((_, chain)) = take(&mut queue) {
        open.push(number(&chain));
    }
    assert_eq!(open.len(), 4);
    drop(queue);
    finish(&mut world, &mut book);
}

#[test]
fn a_driver_that_forgot_to_ask_for_a_new_table_loses_nothing_if_nothing_was_in_flight() {
    let mut world = World::new(4, false);
    let mut book = Book::default();
    let mut queue = world.queue();
    for _ in 0..9 {
        book.add(&mut world.driver, 1);
        let (taken, chain) = take(&mut queue).unwrap();
        queue.complete(token(taken), number(&chain));
        queue.flush();
        book.poll(&mut world.driver);
    }
    drop(queue);
    // The guest resets the device: fresh rings, stale table.
    let fresh = World { table: world.table.try_clone().unwrap(), ..World::new(4, false) };
    let mut world = fresh;
    let mut book = Book::default();
    book.add(&mut world.driver, 1);
    finish(&mut world, &mut book);
}

#[test]
fn a_stale_table_with_requests_in_flight_is_never_replayed_on_another_ring() {
    let mut world = World::new(4, false);
    let mut book = Book::default();
    let mut queue = world.queue();
    for _ in 0..9 {
        book.add(&mut world.driver, 1);
        let (taken, chain) = take(&mut queue).unwrap();
        queue.complete(token(taken), number(&chain));
        queue.flush();
        book.poll(&mut world.driver);
    }
    book.add(&mut world.driver, 1);
    assert!(take(&mut queue).is_some());
    drop(queue);
    let fresh = World { table: world.table.try_clone().unwrap(), ..World::new(4, false) };
    assert!(matches!(LiveQueue::start(fresh.start(false)), Err(StartFault::Table(_))));
}
