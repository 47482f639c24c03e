//! What a lane does when its ring is empty.
//!
//! Spinning and yielding are [`Pace`](bulkhead_ring::Pace)'s to decide; the sleep is on the lane's own
//! bell and, while it serves, on the peer's.

use std::os::fd::AsFd;

use bulkhead_ring::{Armed, Step};
use bulkhead_sys::cpu;
use bulkhead_sys::readiness::wait_readable;

use super::thread::{Held, Lane, State};

impl Lane {
    /// Waits for work or mail in the way that suits the moment, and may return without either.
    pub(super) fn rest(&mut self) {
        match &mut self.state {
            State::Serving(_) if matches!(self.held, Held::Returning) => self.sleep(false),
            State::Serving(link) => {
                let same_cpu = cpu::current().is_none_or(|cpu| link.server.cpus.shared(cpu));
                match self.pace.next(same_cpu, self.began.elapsed()) {
                    Step::Spin => std::hint::spin_loop(),
                    Step::YieldOnce => self.yield_once(),
                    Step::Arm => self.arm_and_sleep(),
                }
            }
            State::Empty | State::Draining(_) => self.sleep(false),
        }
    }

    fn yield_once(&mut self) {
        let before = self.began.elapsed();
        std::thread::yield_now();
        let after = self.began.elapsed();
        self.pace.yielded(after - before, after);
    }

    fn arm_and_sleep(&mut self) {
        let State::Serving(link) = &mut self.state else {
            return;
        };
        match link.server.submit.arm() {
            Ok(Armed::Again) => return,
            Ok(Armed::Sleep) => self.sleep(true),
            Err(fault) => return self.fault(fault.into()),
        }
        if let State::Serving(link) = &mut self.state {
            link.server.submit.disarm();
        }
    }

    /// Sleeps until there is mail, or with `ring` also until the peer rings.
    fn sleep(&mut self, ring: bool) {
        if !self.mailbox.may_sleep() {
            return;
        }
        let own = self.mailbox.bell().as_fd();
        // A failed wait is a look at everything, like any other wake-up.
        let rung = match &self.bells {
            Some(bells) if ring => {
                let news = wait_readable([own, bells.submit.as_fd()], None);
                let [own, peer] = news.unwrap_or([true; 2]);
                if peer {
                    bells.submit.clear();
                }
                own
            }
            _ => wait_readable([own], None).is_ok_and(|[own]| own),
        };
        self.mailbox.woke(rung);
    }
}
