//! What lanes are told and what they tell.

use bulkhead_memory::GuestMemory;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_virtqueue::{QueueFault, QueueSetup};

use crate::queue::QueueStart;

/// What the frontend wants done with a queue. Each order is answered by one [`Answer`].
#[derive(Debug)]
pub enum QueueOrder {
    /// Take it up.
    Start(Box<QueueStart>),
    /// Finish what was taken, take nothing more.
    Stop,
    /// Take requests, or take none.
    Enable(bool),
    /// Another kick.
    Kick(Doorbell),
    /// Another call.
    Call(Option<Doorbell>),
    /// Another error doorbell.
    Err(Option<Doorbell>),
    /// Another memory table, in which the rings are at these guest addresses.
    Remap(GuestMemory, QueueSetup),
}

/// An order was carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// The queue was stopped at this position.
    Stopped {
        /// Which queue.
        queue: u16,
        /// Its position.
        base: u32,
    },
    /// A queue could not be taken up; the reason says whom to blame.
    NotStarted {
        /// Which queue.
        queue: u16,
        /// Why.
        reason: String,
    },
    /// Another order could not be carried out.
    Refused(String),
}

/// What a lane tells the main thread.
#[derive(Debug)]
pub enum Report {
    /// About an order.
    Answer(Answer),
    /// The lane is awake and serves: the answer to a ping of this number.
    Pong(u64),
    /// The driver broke a queue.
    Broken(u16, QueueFault),
    /// The first request of all is completed.
    Progressed,
    /// So many requests were refused as poison.
    Poisoned(u32),
    /// The lane cannot go on.
    Failed(String),
}

/// What the main thread sends another lane.
pub(super) enum Mail<D, O> {
    /// Its part of the device; the first thing it gets.
    Begin(D),
    Queue(u16, QueueOrder),
    Device(O),
    Ping(u64),
}
