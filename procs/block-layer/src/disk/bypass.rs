//! Who may go past a disk: lanes with a lease, as long as nobody needs to see every request.
//!
//! The executor hands leases out and takes them back ([`Bypass::may_lend`] says which); whoever is to see
//! every request bars them first, and waits until the last one is back.

use std::cell::Cell;
use std::rc::Rc;

use crate::task::Waiting;

/// See the module. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Bypass(Rc<State>);

#[derive(Debug, Default)]
struct State {
    barred: Cell<u32>,
    lent: Cell<u32>,
    /// How often leases were barred for a change of what they cover.
    changes: Cell<u64>,
    waiting: Waiting,
}

/// Nobody goes past the disk until this is dropped.
#[derive(Debug)]
pub struct Barred(Bypass);

impl Bypass {
    /// Whether lanes may have leases. Once this is `false`, they are to be taken back.
    pub fn may_lend(&self) -> bool {
        self.0.barred.get() == 0
    }

    /// A lane has got one.
    pub fn lent(&self) {
        self.0.lent.set(self.0.lent.get() + 1);
    }

    /// A lane has given it back: nothing that it did under it goes on.
    pub fn returned(&self) {
        self.0.lent.set(self.0.lent.get().saturating_sub(1));
        if self.0.lent.get() == 0 {
            self.0.waiting.wake();
        }
    }

    /// Lanes that have one.
    pub fn out(&self) -> u32 {
        self.0.lent.get()
    }

    /// How often leases were barred: what somebody knew for lanes before is worth nothing after it.
    pub fn changes(&self) -> u64 {
        self.0.changes.get()
    }

    /// Bars leases, and waits until the last one is back.
    pub async fn bar(&self) -> Barred {
        self.0.changes.set(self.0.changes.get() + 1);
        self.bar_briefly().await
    }

    /// The same for one request that changes what lanes know, and tells them itself.
    pub async fn bar_briefly(&self) -> Barred {
        self.0.barred.set(self.0.barred.get() + 1);
        let barred = Barred(self.clone());
        self.0.waiting.until(|| self.0.lent.get() == 0).await;
        barred
    }
}

impl Drop for Barred {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.barred.set(state.barred.get() - 1);
    }
}
