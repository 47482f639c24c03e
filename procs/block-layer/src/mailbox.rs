//! How the threads of the block layer speak to each other: a queue with a sleeper.
//!
//! Law: the owner looks at its mail before it sleeps ([`Mailbox::may_sleep`]) and sleeps on
//! [`Mailbox::bell`] among others; whoever posts rings only for a sleeper. The bell is our own and
//! not the ring's: a peer that holds a doorbell can also empty it, and would make us deaf.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bulkhead_sys::eventfd::Doorbell;

/// A queue of one reader and many writers.
#[derive(Debug)]
pub struct Mailbox<T> {
    mail: Mutex<Vec<T>>,
    /// Something lies in `mail`: lets the reader pass by without the lock.
    waiting: AtomicBool,
    asleep: AtomicBool,
    bell: Doorbell,
}

impl<T> Mailbox<T> {
    /// An empty one. Made before the seal: afterwards there are no new eventfds.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            mail: Mutex::new(Vec::with_capacity(64)),
            waiting: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            bell: Doorbell::new()?,
        })
    }

    /// Adds a message, and wakes the reader if it sleeps.
    pub fn post(&self, message: T) {
        self.put(message);
        self.ring();
    }

    /// Adds a message for a reader that is woken later: [`ring`](Self::ring) follows, when the writer has no
    /// more to add. A sleeper on the writer's CPU would take its place for every single one.
    pub fn put(&self, message: T) {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        mail.push(message);
        // SeqCst: this store and the look at `asleep` pair with those in `may_sleep`.
        self.waiting.store(true, Ordering::SeqCst);
    }

    /// Wakes the reader if it sleeps.
    pub fn ring(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Moves all messages to `into`, oldest first; `into` must be empty and lends its memory.
    pub fn collect(&self, into: &mut Vec<T>) {
        if self.waiting.load(Ordering::Acquire) {
            let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
            self.waiting.store(false, Ordering::Relaxed);
            std::mem::swap(&mut *mail, into);
        }
    }

    /// Whether the reader may sleep on the bell now. `false`: there is mail.
    pub fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.waiting.load(Ordering::SeqCst) {
            return true;
        }
        self.asleep.store(false, Ordering::Relaxed);
        false
    }

    /// After the sleep, with whether the bell was rung.
    pub fn woke(&self, rung: bool) {
        self.asleep.store(false, Ordering::Relaxed);
        if rung {
            self.bell.clear();
        }
    }

    /// What to sleep on.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_order_and_once() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.post(1);
        mailbox.post(2);
        let mut mail = Vec::new();
        mailbox.collect(&mut mail);
        assert_eq!(mail, [1, 2]);
        mail.clear();
        mailbox.collect(&mut mail);
        assert!(mail.is_empty());
    }

    #[test]
    fn what_is_put_is_there_before_the_bell() {
        let mailbox = Mailbox::new().unwrap();
        assert!(mailbox.may_sleep());
        mailbox.put(1);
        mailbox.put(2);
        assert!(!mailbox.bell().is_rung());
        mailbox.ring();
        assert!(mailbox.bell().clear());
        mailbox.woke(false);
        let mut mail = Vec::new();
        mailbox.collect(&mut mail);
        assert_eq!(mail, [1, 2]);
    }

    #[test]
    fn a_sleeper_is_rung_for_once_and_nobody_else() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.post(1);
        assert!(!mailbox.bell().is_rung());
        assert!(!mailbox.may_sleep(), "there is mail");
        mailbox.collect(&mut Vec::new());
        assert!(mailbox.may_sleep());
        mailbox.post(2);
        mailbox.post(3);
        assert!(mailbox.bell().clear());
        mailbox.woke(false);
        mailbox.post(4);
        assert!(!mailbox.bell().is_rung());
    }
}
