//! The gate between vCPU threads and the guest: open, all may run; shut, all come out.
//!
//! ```text
//!           open                         shut (anyone, never waits)
//!  shut ─────────────► open: threads enter ─────────────► shut: kicked, they leave
//!                                                          │
//!                                                  wait_empty (event loop only)
//! ```
//!
//! A thread looks at the gate before every entry into the guest, and a kick that comes between that
//! look and the entry ends the entry at once; so after `shut` no thread executes another exit's worth
//! of guest code, and `wait_empty` is short.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bulkhead_hypervisor::Kick;

/// The gate of one machine.
pub struct Gate {
    kicks: Vec<Arc<dyn Kick>>,
    is_open: AtomicBool,
    /// Threads inside.
    inside: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    /// A shut gate for vCPUs that are kicked by `kicks`.
    pub fn new(kicks: Vec<Arc<dyn Kick>>) -> Arc<Self> {
        let (is_open, inside) = (AtomicBool::new(false), Mutex::new(0));
        Arc::new(Self { kicks, is_open, inside, changed: Condvar::new() })
    }

    /// Lets all threads in.
    pub fn open(&self) {
        let _inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_open.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Calls all threads out. Does not wait for them, so any thread may call it, one inside too.
    pub fn shut(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        for kick in &self.kicks {
            kick.kick();
        }
    }

    /// Whether a thread may go on.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    /// Waits until the gate is open, then goes in.
    pub fn enter(&self) {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.changed.wait_while(inside, |_| !self.is_open());
        *opened.unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Comes out.
    pub fn leave(&self) {
        *self.inside.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.changed.notify_all();
    }

    /// Waits until nobody is inside. The gate must be shut.
    pub fn wait_empty(&self) {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(inside, |inside| *inside > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Kick for Count {
        fn kick(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn threads_come_out_when_it_is_shut_and_in_when_it_is_opened() {
        let kicks: Vec<_> = (0..3).map(|_| Arc::<Count>::default()).collect();
        let gate = Gate::new(kicks.iter().map(|kick| Arc::clone(kick) as Arc<dyn Kick>).collect());
        let rounds = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let (gate, rounds) = (Arc::clone(&gate), Arc::clone(&rounds));
            std::thread::spawn(move || {
                loop {
                    gate.enter();
                    rounds.fetch_add(1, Ordering::SeqCst);
                    while gate.is_open() {
                        std::thread::yield_now();
                    }
                    gate.leave();
                }
            });
        }
        for round in 1..=50 {
            gate.open();
            while rounds.load(Ordering::SeqCst) < 3 * round {
                std::thread::yield_now();
            }
            gate.shut();
            gate.wait_empty();
            assert_eq!(rounds.load(Ordering::SeqCst), 3 * round);
        }
        assert!(kicks.iter().all(|kick| kick.0.load(Ordering::SeqCst) == 50));
    }

    #[test]
    fn an_empty_gate_is_not_waited_for() {
        let gate = Gate::new(Vec::new());
        gate.shut();
        gate.wait_empty();
    }
}
