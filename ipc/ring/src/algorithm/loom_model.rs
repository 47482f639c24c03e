//! The algorithm under loom: every interleaving, every stale value the memory model allows.
//!
//! A lost wake-up shows as a deadlock, a lost or repeated entry by an assertion, and a slot that both
//! ends touch at once (a torn entry) as a causality violation: the model's slots are loom's cells,
//! which allow no access that is not ordered by the indices. Weaken any one ordering or remove either
//! fence, and a model turns red. Entries have two words here instead of eight: the code has no case
//! that depends on it.
#![allow(unsafe_code, reason = "loom hands out the contents of its cells as raw pointers")]

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::atomics::AtomicU32;
use super::{Armed, Lines, PushError, RawConsumer, RawProducer, Wake};

const SLOTS: usize = 2;
const WORDS: usize = 2;

#[derive(Default)]
struct Cells {
    tail: AtomicU32,
    head: AtomicU32,
    armed: AtomicU32,
    words: [[UnsafeCell<u64>; WORDS]; SLOTS],
}

// SAFETY: loom runs one thread at a time and fails the model on accesses that could overlap.
unsafe impl Sync for Cells {}
// SAFETY: as above.
unsafe impl Send for Cells {}

impl Lines for Arc<Cells> {
    fn tail(&self) -> &AtomicU32 {
        &self.tail
    }

    fn head(&self) -> &AtomicU32 {
        &self.head
    }

    fn armed(&self) -> &AtomicU32 {
        &self.armed
    }

    fn read(&self, index: u32, word: usize) -> u64 {
        // SAFETY: the pointer is valid during the closure, and loom has checked that no write races.
        self.words[index as usize % SLOTS][word].with(|cell| unsafe { *cell })
    }

    fn write(&self, index: u32, word: usize, value: u64) {
        // SAFETY: the pointer is valid during the closure, and loom has checked that nothing races.
        self.words[index as usize % SLOTS][word].with_mut(|cell| unsafe { *cell = value });
    }

    fn slots(&self) -> u32 {
        SLOTS as u32
    }
}

/// An eventfd.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn obey(&self, wake: Wake) {
        if wake == Wake::Needed {
            *self.rung.lock().unwrap() = true;
            self.heard.notify_one();
        }
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn ring() -> (RawProducer<Arc<Cells>>, RawConsumer<Arc<Cells>>) {
    let cells = Arc::new(Cells::default());
    (RawProducer::new(Arc::clone(&cells)), RawConsumer::new(cells))
}

/// Entry `n`, in two words that belong together.
fn entry(n: u64) -> [u64; WORDS] {
    [n, !n]
}

fn push_waiting(producer: &mut RawProducer<Arc<Cells>>, n: u64) {
    loop {
        match producer.push(entry(n)) {
            Ok(()) => return,
            Err(PushError::Full) => thread::yield_now(),
            Err(PushError::Peer(fault)) => panic!("an honest consumer was blamed: {fault}"),
        }
    }
}

/// Takes one entry, sleeping as the real loop does, and checks that it is entry `n` and whole.
fn pop_sleeping(consumer: &mut RawConsumer<Arc<Cells>>, bell: &Bell, n: u64) {
    let mut words = [0; WORDS];
    while !consumer.pop(words.iter_mut()).expect("an honest producer was blamed") {
        if consumer.arm().expect("an honest producer was blamed") == Armed::Sleep {
            bell.sleep();
            consumer.disarm();
        }
    }
    assert_eq!(words, entry(n));
}

#[test]
fn loom_no_wakeup_is_lost() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring();
        let bell = Arc::new(Bell::default());
        let peers_bell = Arc::clone(&bell);
        let sender = thread::spawn(move || {
            for n in 0..2 {
                push_waiting(&mut producer, n);
                peers_bell.obey(producer.publish());
            }
        });
        for n in 0..2 {
            pop_sleeping(&mut consumer, &bell, n);
        }
        sender.join().unwrap();
    });
}

#[test]
fn loom_slots_are_used_again_without_loss_repetition_or_tearing() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring();
        let sender = thread::spawn(move || {
            for n in 0..SLOTS as u64 + 1 {
                push_waiting(&mut producer, n);
                let _nobody_sleeps = producer.publish();
            }
        });
        for n in 0..SLOTS as u64 + 1 {
            let mut words = [0; WORDS];
            while !consumer.pop(words.iter_mut()).expect("an honest producer was blamed") {
                thread::yield_now();
            }
            assert_eq!(words, entry(n));
        }
        sender.join().unwrap();
    });
}

#[test]
fn loom_a_batch_is_seen_whole_and_rings_once() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring();
        let bell = Arc::new(Bell::default());
        let peers_bell = Arc::clone(&bell);
        let sender = thread::spawn(move || {
            push_waiting(&mut producer, 0);
            push_waiting(&mut producer, 1);
            peers_bell.obey(producer.publish());
            assert_eq!(producer.publish(), Wake::NotNeeded);
        });
        pop_sleeping(&mut consumer, &bell, 0);
        assert!(consumer.ready().unwrap(), "the second of a batch came later than the first");
        pop_sleeping(&mut consumer, &bell, 1);
        sender.join().unwrap();
    });
}

#[test]
fn loom_client_and_server_that_both_sleep_always_wake() {
    let mut model = loom::model::Builder::new();
    // Two rings, two bells: all interleavings with up to three preemptions.
    model.preemption_bound = Some(3);
    model.check(|| {
        let (mut submit, mut requests) = ring();
        let (mut finish, mut complete) = ring();
        let (server_bell, client_bell) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (own, peers) = (Arc::clone(&server_bell), Arc::clone(&client_bell));
        let server = thread::spawn(move || {
            for n in 0..3 {
                pop_sleeping(&mut requests, &own, n);
                push_waiting(&mut finish, n);
                peers.obey(finish.publish());
            }
        });
        // Depth 2, then one more in the first slot.
        for n in 0..2 {
            push_waiting(&mut submit, n);
            server_bell.obey(submit.publish());
        }
        pop_sleeping(&mut complete, &client_bell, 0);
        push_waiting(&mut submit, 2);
        server_bell.obey(submit.publish());
        pop_sleeping(&mut complete, &client_bell, 1);
        pop_sleeping(&mut complete, &client_bell, 2);
        server.join().unwrap();
    });
}
