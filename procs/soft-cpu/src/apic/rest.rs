//! Whether a machine will ever execute again.
//!
//! A vCPU rests if it does not execute and no interrupt can wake it: behind HLT with interrupts off, or
//! before its start-up message. Parked processors do that for as long as they like: an NMI, INIT or
//! start-up message from another vCPU ends it. Once all rest there is nobody to send one, and the guest
//! is dead; the last one to rest finds out. A device whose message is an NMI, and which is then too
//! late, finds a guest that has been given up.
//!
//! Law: a vCPU that has signals rests no more before it takes them. Both are under one lock, so that a
//! signal is seen either as such or by its owner's being up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::{Mailbox, signal};

/// Who rests: a bit for each vCPU.
#[derive(Debug, Default, Clone, Copy)]
struct Resting {
    all: u32,
    /// Those of them that are behind HLT, not before their start.
    halted: u32,
}

/// All of a machine.
#[derive(Debug, Default)]
pub(super) struct Rest(Mutex<Resting>);

impl Rest {
    /// Vcpu `own` begins to rest. `true`: all there are do, nothing is on its way to any of them, and it
    /// is `own` that has to tell. That is one that has executed, if there is any: it is woken for that.
    pub(super) fn begin(&self, own: u32, halted: bool, mailboxes: &[Arc<Mailbox>]) -> bool {
        let mut resting = self.hold();
        resting.all |= bit(own);
        resting.halted |= if halted { bit(own) } else { 0 };
        let up = |(index, mailbox): (u32, &Arc<Mailbox>)| {
            let is_quiet = mailbox.signals.load(Ordering::Acquire) == 0;
            mailbox.present.load(Ordering::Acquire) && !(resting.all & bit(index) != 0 && is_quiet)
        };
        if (0..).zip(mailboxes).any(up) {
            return false;
        }
        match mailboxes.get(resting.halted.trailing_zeros() as usize) {
            Some(other) if !halted => {
                other.signal(signal::WORK);
                false
            }
            _ => true,
        }
    }

    /// Vcpu `own` rests no more.
    pub(super) fn end(&self, own: u32) {
        let mut resting = self.hold();
        resting.all &= !bit(own);
        resting.halted &= !bit(own);
    }

    fn hold(&self) -> MutexGuard<'_, Resting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(index: u32) -> u32 {
    1u32.checked_shl(index).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> [Arc<Mailbox>; 2] {
        let mailboxes = <[Arc<Mailbox>; 2]>::default();
        mailboxes.iter().for_each(|mailbox| mailbox.present.store(true, Ordering::Release));
        mailboxes
    }

    #[test]
    fn the_last_one_to_halt_is_told() {
        let (rest, mailboxes) = (Rest::default(), two());
        assert!(!rest.begin(1, true, &mailboxes));
        assert!(rest.begin(0, true, &mailboxes));
        rest.end(1);
        assert!(!rest.begin(0, true, &mailboxes));
    }

    #[test]
    fn one_that_is_being_woken_is_up() {
        let (rest, mailboxes) = (Rest::default(), two());
        assert!(!rest.begin(1, true, &mailboxes));
        mailboxes[1].signal(signal::NMI);
        assert!(!rest.begin(0, true, &mailboxes));
        mailboxes[1].take();
        assert!(rest.begin(0, true, &mailboxes));
    }

    #[test]
    fn one_that_was_never_started_leaves_the_word_to_one_that_halted() {
        let (rest, mailboxes) = (Rest::default(), two());
        assert!(!rest.begin(0, true, &mailboxes));
        assert!(!rest.begin(1, false, &mailboxes));
        assert_eq!(mailboxes[0].take(), signal::WORK);
        rest.end(0);
        assert!(rest.begin(0, true, &mailboxes));
    }

    #[test]
    fn where_nobody_was_started_the_last_one_tells() {
        let (rest, mailboxes) = (Rest::default(), two());
        assert!(!rest.begin(1, false, &mailboxes));
        assert!(rest.begin(0, false, &mailboxes));
    }
}
