//! Many operations on one thread: futures, and what they wait with.
//!
//! The graph's operations are `async` functions, so that they read from top to bottom. They run on the
//! executor's thread and nowhere else: between two `await`s an operation is alone with the graph, and
//! an `await` is a place where another operation may have come by. A change of the graph waits until
//! the operations in it are over, or happens between two of them.
//!
//! [`Tasks`] runs them, [`finish`] runs a single one that waits for nobody, [`RangeLock`] keeps
//! operations on the same clusters apart.
//!
//! Law: an operation is never dropped half way; whoever no longer wants its result ignores it.
//! Absent on purpose: a reactor. What an operation waits for wakes it: an answered job, a timer of the
//! graph, a lock given back, a condition that somebody made true ([`Waiting`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Which tasks can go on. Wakers hold it, and wakers may be anywhere.
#[derive(Debug, Default)]
struct Ready(Mutex<VecDeque<usize>>);

#[derive(Debug)]
struct Bell {
    place: usize,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.place);
    }
}

struct Place {
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Waker,
}

/// The tasks of one thread.
#[derive(Default)]
pub struct Tasks {
    places: Vec<Place>,
    free: Vec<usize>,
    ready: Arc<Ready>,
    running: usize,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Tasks {
    /// Begins a task and takes it as far as it goes at once.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        let place = self.free.pop().unwrap_or_else(|| {
            let place = self.places.len();
            let bell = Bell { place, ready: Arc::clone(&self.ready) };
            self.places.push(Place { task: None, waker: Arc::new(bell).into() });
            place
        });
        self.places[place].task = Some(Box::pin(task));
        self.running += 1;
        self.poll(place);
    }

    /// Takes every task on that was woken, until none is.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// Takes woken tasks on, at most `most` times. One that wakes itself leaves turns to what comes from
    /// outside.
    pub fn run_some(&mut self, most: usize) {
        for _ in 0..most {
            if !self.step() {
                break;
            }
        }
    }

    /// Whether a task was woken and has not gone on yet.
    pub fn has_ready(&self) -> bool {
        !self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes one task on that was woken; `false`: none was.
    pub fn step(&mut self) -> bool {
        let next = self.next();
        if let Some(place) = next {
            self.poll(place);
        }
        next.is_some()
    }

    /// Takes one of the tasks on that were woken: the one that `choose` picks of so many. `false`: none
    /// was.
    #[cfg(test)]
    pub fn step_any(&mut self, choose: impl FnOnce(usize) -> usize) -> bool {
        let next = {
            let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = ready.len();
            if count == 0 { None } else { ready.remove(choose(count)) }
        };
        if let Some(place) = next {
            self.poll(place);
        }
        next.is_some()
    }

    /// Tasks that are not over.
    pub fn running(&self) -> usize {
        self.running
    }

    fn next(&self) -> Option<usize> {
        self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// A place may have been woken by what its last task waited for: its next one is asked in vain.
    fn poll(&mut self, place: usize) {
        let Place { task, waker } = &mut self.places[place];
        let Some(future) = task else {
            return;
        };
        if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            *task = None;
            self.free.push(place);
            self.running -= 1;
        }
    }
}

/// Gives the others a turn.
pub async fn yield_now() {
    let mut gave = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits until one of two is over; the other is dropped, so neither may be an operation of a node.
pub async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        let over = one.as_mut().poll(context).is_ready() || other.as_mut().poll(context).is_ready();
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Runs one operation that nobody else is in the way of, on storage that never makes it wait.
///
/// # Panics
/// If it waits for something that does not come.
pub fn finish<T>(operation: impl Future<Output = T>) -> T {
    let ready = Arc::new(Ready::default());
    let waker = Waker::from(Arc::new(Bell { place: 0, ready: Arc::clone(&ready) }));
    let mut operation = pin!(operation);
    loop {
        if let Poll::Ready(output) = operation.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let woken = ready.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        assert!(woken.is_some(), "an operation on storage that never waits waits");
    }
}

/// Tasks that wait for a condition. Whoever may have made it true wakes them; they look for themselves.
#[derive(Debug, Default)]
pub struct Waiting(RefCell<Vec<Waker>>);

impl Waiting {
    /// Waits until `holds`, which is asked at once and after each [`wake`](Self::wake).
    pub async fn until(&self, holds: impl Fn() -> bool) {
        std::future::poll_fn(|context| match holds() {
            true => Poll::Ready(()),
            false => {
                self.0.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    /// Lets everybody who waits look again.
    pub fn wake(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }
}

/// Keeps operations on overlapping ranges apart. Whoever comes first goes first, also before those
/// that would have had room.
#[derive(Debug, Default)]
pub struct RangeLock {
    queue: RefCell<VecDeque<Claim>>,
    claims: std::cell::Cell<u64>,
}

#[derive(Debug)]
struct Claim {
    number: u64,
    range: Range<u64>,
    waker: Option<Waker>,
}

/// A range that is held until this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    lock: &'a RangeLock,
    number: u64,
}

impl RangeLock {
    /// Waits for `range`.
    pub async fn hold(&self, range: Range<u64>) -> Held<'_> {
        let number = self.claims.get() + 1;
        self.claims.set(number);
        self.queue.borrow_mut().push_back(Claim { number, range, waker: None });
        std::future::poll_fn(|context| match self.is_next(number) {
            true => Poll::Ready(()),
            false => {
                self.wait(number, context.waker());
                Poll::Pending
            }
        })
        .await;
        Held { lock: self, number }
    }

    /// Waits for all of it.
    pub async fn hold_all(&self) -> Held<'_> {
        self.hold(0..u64::MAX).await
    }

    /// Whether nobody before `number` wants any of its range.
    fn is_next(&self, number: u64) -> bool {
        let queue = self.queue.borrow();
        let Some(own) = queue.iter().find(|claim| claim.number == number) else {
            return true;
        };
        let overlaps =
            |claim: &&Claim| claim.range.start < own.range.end && own.range.start < claim.range.end;
        !queue.iter().take_while(|claim| claim.number < number).any(|claim| overlaps(&claim))
    }

    fn wait(&self, number: u64, waker: &Waker) {
        let mut queue = self.queue.borrow_mut();
        if let Some(own) = queue.iter_mut().find(|claim| claim.number == number) {
            own.waker = Some(waker.clone());
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut queue = self.lock.queue.borrow_mut();
        queue.retain(|claim| claim.number != self.number);
        for waker in queue.iter_mut().filter_map(|claim| claim.waker.take()) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn overlapping_ranges_wait_and_others_pass() {
        let (lock, log) = (Rc::new(RangeLock::default()), Rc::new(RefCell::new(Vec::new())));
        let gate = Rc::new(RangeLock::default());
        let held = finish(gate.hold_all());
        let mut tasks = Tasks::default();
        for (name, range, waits) in [("a", 0..4, true), ("b", 3..6, false), ("c", 6..8, false)] {
            let (lock, log, gate) = (Rc::clone(&lock), Rc::clone(&log), Rc::clone(&gate));
            tasks.spawn(async move {
                let _held = lock.hold(range).await;
                if waits {
                    drop(gate.hold_all().await);
                }
                log.borrow_mut().push(name);
            });
        }
        tasks.run();
        assert_eq!(*log.borrow(), ["c"]);
        drop(held);
        tasks.run();
        assert_eq!(*log.borrow(), ["c", "a", "b"]);
        assert_eq!(tasks.running(), 0);
    }
}
