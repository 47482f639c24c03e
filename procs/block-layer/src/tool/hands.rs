//! The threads of a block-tool, which do what takes time beside its first one: they compress, read and
//! write.
//!
//! ```text
//! first thread ──call──▶ one of the hands ──▶ answer ──wakes──▶ the task that waits for it
//! ```
//!
//! Law: formats stay with the thread that has them; hands get bytes and give bytes. They are made before
//! the seal, and end with the process: a thread of a sealed process has no other end.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use anyhow::Result;
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::task::Tasks;

use super::servers::Servers;

/// A thread's stack: tables of what compresses are on the heap.
const STACK: usize = 256 * 1024;

/// A call on fewer bytes is made faster than it is given away, unless it waits for a device.
const LONG: u64 = 64 << 10;

/// What one of them is given to do.
pub type Work = Box<dyn FnOnce() + Send>;

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub struct Hands(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    threads: usize,
    work: Sender<Work>,
    /// One for each answer that has come.
    bell: Sender<()>,
    rung: Receiver<()>,
    /// Several operations are under way: none of them may keep the others waiting.
    together: Cell<bool>,
    /// Short calls wait as well.
    all: Cell<bool>,
    servers: Servers,
}

/// An answer that is to come.
#[derive(Debug)]
struct Answer(Arc<Mutex<Slot>>);

#[derive(Debug)]
enum Slot {
    Waiting(Option<Waker>),
    Over(Outcome),
}

impl Hands {
    /// Makes so many. To be called before the seal.
    pub fn make(threads: usize) -> std::io::Result<Self> {
        let (work, queue) = channel::<Work>();
        let (bell, rung) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let begun = Arc::new(Barrier::new(threads + 1));
        for number in 0..threads {
            let (queue, begun) = (Arc::clone(&queue), Arc::clone(&begun));
            let thread = thread::Builder::new().name(format!("hand-{number}")).stack_size(STACK);
            thread.spawn(move || {
                begun.wait();
                serve(&queue);
                loop {
                    thread::park();
                }
            })?;
        }
        begun.wait();
        let (together, all, servers) = (Cell::new(false), Cell::new(false), Servers::new());
        Ok(Self(Rc::new(Inner { threads, work, bell, rung, together, all, servers })))
    }

    /// The servers of the command.
    pub fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.threads
    }

    /// Gives work to whoever is free first; `false`: they are all gone.
    pub fn give(&self, work: Work) -> bool {
        self.0.work.send(work).is_ok()
    }

    /// Whether a call on so many bytes is for them.
    pub fn take(&self, bytes: u64) -> bool {
        self.0.together.get() && (bytes >= LONG || self.0.all.get())
    }

    /// Whether all calls are, or those that may take long.
    pub fn take_all(&self, all: bool) {
        self.0.all.set(all);
    }

    /// Has a call made, and waits for its answer as a task waits.
    pub async fn call(&self, call: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
        let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
        let (answer, bell) = (Answer(Arc::clone(&slot)), self.0.bell.clone());
        let given = self.give(Box::new(move || {
            let outcome = call();
            let before = std::mem::replace(&mut *lock(&slot), Slot::Over(outcome));
            if let Slot::Waiting(Some(waker)) = before {
                waker.wake();
            }
            // Nobody listens any more: the process ends.
            let _ = bell.send(());
        }));
        if given { answer.await } else { Err(Failure::IO) }
    }

    /// Takes the tasks that `begin` begins to their end, with calls made by the hands; `each` is called
    /// whenever something is over.
    pub fn finish(
        &self,
        begin: impl FnOnce(&mut Tasks),
        mut each: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut tasks = Tasks::default();
        // There is one thing to wait for: with servers that is their sockets, and files are read between.
        let alone = self.0.servers.is_empty();
        self.0.servers.set_alone(alone);
        self.0.together.set(alone && self.0.threads > 0);
        begin(&mut tasks);
        let mut done = Ok(());
        while tasks.running() > 0 && done.is_ok() {
            tasks.run();
            done = each();
            if tasks.running() > 0 && done.is_ok() {
                self.wait();
            }
        }
        self.0.together.set(false);
        self.0.servers.set_alone(true);
        done
    }

    fn wait(&self) {
        if !self.0.servers.is_empty() {
            return self.0.servers.wait();
        }
        // The other end is in the same struct.
        let _ = self.0.rung.recv();
        while self.0.rung.try_recv().is_ok() {}
    }
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let slot = &mut *lock(&self.0);
        match slot {
            Slot::Over(outcome) => Poll::Ready(*outcome),
            Slot::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn serve(queue: &Mutex<Receiver<Work>>) {
    loop {
        let next = lock(queue).recv();
        match next {
            Ok(work) => work(),
            Err(_) => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
