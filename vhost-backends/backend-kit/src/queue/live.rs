//! The queue as a device sees it: requests to take and to give back, and nothing else.
//!
//! ```text
//!            take                    complete             (lane) flush
//!   ring ──────────► device's hands ──────────► given back ──────────► driver, call
//!     ▲                  │ untake
//!     └──────────────────┘
//! ```
//!
//! A driver that breaks its queue breaks it for itself: [`LiveQueue::take`] then answers `None` for
//! ever, requests in the device's hands are still awaited but not shown any more, and the frontend is
//! told by the error doorbell.

use bulkhead_memory::GuestMemory;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_virtqueue::{Chain, QueueFault, QueueSetup};

use super::ring::{Replay, Ring, Token};
use super::start::{QueueStart, StartFault};
use crate::inflight::{HOPELESS, POISON};

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A request.
    Request(Token),
    /// A request that was in flight in too many deaths in a row: it is to be answered with an error,
    /// by [`LiveQueue::refuse`], and not to be tried.
    Poison(Token),
}

/// Whether more requests are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// The frontend wants it stopped: what was taken is finished, nothing new is taken.
    Stopping,
    /// The driver broke it.
    Broken,
}

/// A queue that is served by one thread.
#[derive(Debug)]
pub struct LiveQueue {
    index: u16,
    features: u64,
    ring: Ring,
    memory: GuestMemory,
    state: State,
    enabled: bool,
    /// Requests of a predecessor, last taken first.
    replays: Vec<Replay>,
    pub(crate) kick: Doorbell,
    call: Option<Doorbell>,
    err: Option<Doorbell>,
    /// Something was given back since the last flush.
    given_back: bool,
    /// A predecessor may have died between showing an answer and calling.
    owed_call: bool,
    /// Attempts are counted for some request in flight.
    suspects: bool,
    /// The device can take more now; see [`set_hungry`](Self::set_hungry).
    hungry: bool,
    completed: u64,
    poisoned: u32,
    fault: Option<QueueFault>,
}

impl LiveQueue {
    /// Takes up a queue, with what a predecessor left.
    pub fn start(start: QueueStart) -> Result<Self, StartFault> {
        let (ring, replays) = Ring::start(&start)?;
        if start.own_fault {
            replays.iter().for_each(|replay| replay.count_attempt(&ring));
        }
        let suspects = replays.iter().any(|replay| replay.attempts(&ring) > 0);
        Ok(Self {
            index: start.index,
            features: start.features,
            ring,
            memory: start.memory,
            state: State::Serving,
            enabled: start.enabled,
            suspects,
            replays,
            kick: start.kick,
            call: start.call,
            err: start.err,
            given_back: false,
            owed_call: true,
            hungry: true,
            completed: 0,
            poisoned: 0,
            fault: None,
        })
    }

    /// Which queue of the device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Virtio features that the driver accepted.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Guest memory as the frontend has it now.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Takes the next request into `chain`, those of a predecessor first.
    #[inline]
    pub fn take(&mut self, chain: &mut Chain) -> Option<Taken> {
        if !self.enabled || self.state != State::Serving {
            return None;
        }
        let taken = match self.replays.is_empty() {
            true => self.ring.take(&self.memory, chain).map(|token| token.map(Taken::Request)),
            false => self.replay(chain),
        };
        taken.unwrap_or_else(|fault| {
            self.break_down(fault);
            None
        })
    }

    #[cold]
    fn replay(&mut self, chain: &mut Chain) -> Result<Option<Taken>, QueueFault> {
        while let Some(replay) = self.replays.pop() {
            let attempts = replay.attempts(&self.ring);
            if attempts >= HOPELESS {
                let token = self.ring.take_unread(&replay)?;
                self.refuse(token, 0);
                continue;
            }
            let token = self.ring.take_again(&self.memory, &replay, chain)?;
            return Ok(Some(match attempts < POISON {
                true => Taken::Request(token),
                false => Taken::Poison(token),
            }));
        }
        self.ring.take(&self.memory, chain).map(|token| token.map(Taken::Request))
    }

    /// Puts the request that was taken last back into the ring, as if it had not been taken.
    pub fn untake(&mut self, token: Token) {
        self.ring.untake(token);
    }

    /// Gives a request back that was served, well or badly; `written` bytes of it were written, from
    /// its first writable byte on. The driver sees it when the device has no more to do.
    #[inline]
    pub fn complete(&mut self, token: Token, written: u32) {
        if self.suspects {
            self.suspects = false;
            self.ring.forgive();
        }
        self.completed += 1;
        self.give_back(token, written);
    }

    /// As [`complete`](Self::complete), for a request that was not tried: no progress.
    pub fn refuse(&mut self, token: Token, written: u32) {
        self.poisoned += 1;
        self.give_back(token, written);
    }

    fn give_back(&mut self, token: Token, written: u32) {
        if let Err(fault) = self.ring.give_back(token, written) {
            self.break_down(fault);
        }
        self.given_back = true;
    }

    /// The service behind the device died by its own fault while this request was with it; answers
    /// whether the request is poison now, to be given back by [`refuse`](Self::refuse).
    pub fn count_attempt(&mut self, token: Token) -> bool {
        self.suspects = true;
        token.count_attempt(&self.ring) >= POISON
    }

    /// Says whether the device can take more requests now. If not, it is not woken for them: what it
    /// waits for (a completion, room in a stream) wakes it.
    pub fn set_hungry(&mut self, hungry: bool) {
        self.hungry = hungry;
    }

    /// Requests in the device's hands, in places of the ring.
    pub fn in_flight(&self) -> u16 {
        self.ring.in_flight()
    }

    /// Whether the frontend wants it stopped.
    pub fn is_stopping(&self) -> bool {
        self.state == State::Stopping
    }

    /// Shows the driver what was given back and calls it if it wants that. The lane does it after each
    /// turn of the device.
    #[inline]
    pub fn flush(&mut self) {
        if !self.given_back && !self.owed_call {
            return;
        }
        self.given_back = false;
        let wanted = self.ring.publish().unwrap_or_else(|fault| {
            self.break_down(fault);
            true
        });
        let owed = std::mem::take(&mut self.owed_call);
        if wanted || owed {
            self.ring_call();
        }
    }

    fn ring_call(&self) {
        if let Some(call) = &self.call {
            call.ring();
        }
    }

    /// The lane is about to sleep: asks for kicks. `true`: there is something to take already.
    pub(crate) fn rest(&mut self) -> bool {
        if !self.hungry || !self.enabled || self.state != State::Serving {
            return false;
        }
        if !self.replays.is_empty() {
            return true;
        }
        self.ring.want_kicks().unwrap_or_else(|fault| {
            self.break_down(fault);
            true
        })
    }

    /// The lane is awake: kicks need not be sent for now.
    pub(crate) fn wake(&mut self) {
        if let Err(fault) = self.ring.forgo_kicks() {
            self.break_down(fault);
        }
    }

    /// The frontend wants it served or not.
    pub(crate) fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// The frontend wants it stopped.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopping;
    }

    /// Whether it was to be stopped and nothing of it is in the device's hands; answers its position.
    pub(crate) fn stopped(&self) -> Option<u32> {
        let done = self.state == State::Stopping && self.in_flight() == 0 && !self.given_back;
        done.then(|| self.ring.base())
    }

    /// The driver is called through another doorbell from now on; once at once, since a call may have
    /// gone to the old one.
    pub(crate) fn set_call(&mut self, call: Option<Doorbell>) {
        self.call = call;
        self.ring_call();
    }

    pub(crate) fn set_err(&mut self, err: Option<Doorbell>) {
        self.err = err;
    }

    /// The frontend changed its memory table.
    pub(crate) fn remap(&mut self, memory: GuestMemory, setup: &QueueSetup) {
        self.memory = memory;
        if let Err(fault) = self.ring.remap(&self.memory, setup) {
            self.break_down(fault);
        }
    }

    /// What the driver did wrong, told once.
    pub(crate) fn take_fault(&mut self) -> Option<QueueFault> {
        self.fault.take()
    }

    /// Requests completed since this was last asked.
    pub(crate) fn take_completed(&mut self) -> u64 {
        std::mem::take(&mut self.completed)
    }

    /// Poison requests refused since this was last asked.
    pub(crate) fn take_poisoned(&mut self) -> u32 {
        std::mem::take(&mut self.poisoned)
    }

    /// Whether the driver broke it.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    fn break_down(&mut self, fault: QueueFault) {
        if self.state == State::Serving {
            self.state = State::Broken;
            self.fault = Some(fault);
            if let Some(err) = &self.err {
                err.ring();
            }
        }
    }
}
