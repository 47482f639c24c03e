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

    /// Sleeps until there is mail or the kernel has done something, with `ring` also until the peer rings.
    fn sleep(&mut self, ring: bool) {
        if !self.mailbox.may_sleep() {
            return;
        }
        let own = self.mailbox.bell().as_fd();
        let peer = self.bells.as_ref().filter(|_| ring).map(|bells| &bells.submit);
        let direct = self.direct.as_ref().filter(|direct| direct.is_busy());
        // A failed wait is a look at everything, like any other wake-up. Who is not there is our own bell.
        let from_peer = peer.map_or(own, |bell| bell.as_fd());
        let news = match direct {
            Some(direct) => wait_readable([own, from_peer, direct.bell()], None),
            None => wait_readable([own, from_peer], None).map(|[own, peer]| [own, peer, false]),
        };
        let [own, rung, done] = news.unwrap_or([true; 3]);
        if let Some(bell) = peer.filter(|_| rung) {
            bell.clear();
        }
        if let Some(direct) = direct.filter(|_| done) {
            direct.heard();
        }
        self.mailbox.woke(own);
    }
}
