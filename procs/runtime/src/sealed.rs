//! A sealed helper's end of its channel.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bulkhead_channel::{Channel, Message};
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_sys::clock::Deadline;

use crate::RuntimeError;

/// How long the supervisor may leave the channel full before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the supervisor said.
#[derive(Debug)]
pub enum Incoming<C> {
    /// To be answered by [`Helper::alive`] with the same number.
    Heartbeat(u64),
    /// A command of the class's own, with its descriptors.
    Role(C, Vec<OwnedFd>),
    /// Finish and exit 0.
    Stop,
}

/// A sealed helper: `C` are the commands it takes, `E` the events it tells.
#[derive(Debug)]
pub struct Helper<C, E> {
    channel: Channel,
    roles: PhantomData<fn(E) -> C>,
}

impl<C: Message, E: Message> Helper<C, E> {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, roles: PhantomData }
    }

    /// Waits for the plan, the first command of the class's own, and answers heartbeats meanwhile.
    pub fn plan(&self, deadline: Deadline) -> Result<(C, Vec<OwnedFd>), RuntimeError> {
        loop {
            let (message, fds) = self.channel.receive_by::<ToHelper<C>>(deadline)?;
            match message {
                ToHelper::Role(plan) => return Ok((plan, fds)),
                ToHelper::Heartbeat(number) => self.alive(number, 0)?,
                ToHelper::Stop => return Err(RuntimeError::Closed),
            }
        }
    }

    /// Says that the plan is live.
    pub fn ready(&self) -> Result<(), RuntimeError> {
        self.say(&FromHelper::Ready, &[])
    }

    /// Takes the next message if one is there; never waits.
    pub fn try_receive(&self) -> Result<Option<Incoming<C>>, RuntimeError> {
        let Some((message, fds)) = self.channel.try_receive::<ToHelper<C>>()? else {
            return Ok(None);
        };
        Ok(Some(match message {
            ToHelper::Heartbeat(number) => Incoming::Heartbeat(number),
            ToHelper::Role(command) => Incoming::Role(command, fds),
            ToHelper::Stop => Incoming::Stop,
        }))
    }

    /// Answers a heartbeat. `progress` counts the requests that this incarnation completed.
    pub fn alive(&self, number: u64, progress: u64) -> Result<(), RuntimeError> {
        self.say(&FromHelper::Alive { number, progress }, &[])
    }

    /// Says that the first request of this incarnation is completed.
    pub fn progressed(&self) -> Result<(), RuntimeError> {
        self.say(&FromHelper::Progressed, &[])
    }

    /// Tells an event that has no descriptors.
    pub fn event(&self, event: &E) -> Result<(), RuntimeError>
    where
        E: Clone,
    {
        self.event_with(event, &[])
    }

    /// Tells an event with its descriptors.
    pub fn event_with(&self, event: &E, fds: &[BorrowedFd<'_>]) -> Result<(), RuntimeError>
    where
        E: Clone,
    {
        self.say(&FromHelper::Role(event.clone()), fds)
    }

    fn say(&self, message: &FromHelper<E>, fds: &[BorrowedFd<'_>]) -> Result<(), RuntimeError> {
        Ok(self.channel.send_by(message, fds, Deadline::after(PATIENCE))?)
    }
}

impl<C, E> AsFd for Helper<C, E> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests;
