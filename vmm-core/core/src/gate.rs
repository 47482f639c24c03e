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

/// All threads may go in.
const EVERYBODY: u32 = u32::MAX;

/// Who is inside, and who may go in.
struct Inside {
    count: usize,
    /// One bit for each vCPU.
    allowed: u32,
}

/// The gate of one machine.
pub struct Gate {
    kicks: Vec<Arc<dyn Kick>>,
    is_open: AtomicBool,
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Gate {
    /// A shut gate for vCPUs that are kicked by `kicks`.
    pub fn new(kicks: Vec<Arc<dyn Kick>>) -> Arc<Self> {
        let (is_open, inside) =
            (AtomicBool::new(false), Mutex::new(Inside { count: 0, allowed: EVERYBODY }));
        Arc::new(Self { kicks, is_open, inside, changed: Condvar::new() })
    }

    /// Lets all threads in.
    pub fn open(&self) {
        let _inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_open.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Says which vCPUs' threads an open gate lets in. It must be shut.
    pub fn allow(&self, vcpus: impl Fn(u8) -> bool) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.allowed = (0..32).filter(|cpu| vcpus(*cpu)).fold(0, |all, cpu| all | 1 << cpu);
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

    /// Waits until the gate is open for this vCPU's thread, then goes in.
    pub fn enter(&self, cpu: u8) {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shut = |inside: &mut Inside| !self.is_open() || inside.allowed & 1 << cpu == 0;
        let opened = self.changed.wait_while(inside, is_shut);
        opened.unwrap_or_else(PoisonError::into_inner).count += 1;
    }

    /// Comes out.
    pub fn leave(&self) {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).count -= 1;
        self.changed.notify_all();
    }

    /// Waits until nobody is inside. The gate must be shut.
    pub fn wait_empty(&self) {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(inside, |inside| inside.count > 0));
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
        for cpu in 0..3 {
            let (gate, rounds) = (Arc::clone(&gate), Arc::clone(&rounds));
            std::thread::spawn(move || {
                loop {
                    gate.enter(cpu);
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
    fn a_thread_that_is_not_allowed_stays_out() {
        let gate = Gate::new(Vec::new());
        gate.allow(|cpu| cpu == 1);
        let entered = Arc::new(AtomicUsize::new(0));
        for cpu in 0..2 {
            let (gate, entered) = (Arc::clone(&gate), Arc::clone(&entered));
            std::thread::spawn(move || {
                gate.enter(cpu);
                entered.fetch_add(1 << (4 * cpu), Ordering::SeqCst);
                gate.leave();
            });
        }
        let wait_for = |value| {
            while entered.load(Ordering::SeqCst) != value {
                std::thread::yield_now();
            }
        };
        gate.open();
        wait_for(0x10);
        gate.shut();
        gate.wait_empty();
        gate.allow(|_| true);
        gate.open();
        wait_for(0x11);
    }

    #[test]
    fn an_empty_gate_is_not_waited_for() {
        let gate = Gate::new(Vec::new());
        gate.shut();
        gate.wait_empty();
    }
}
