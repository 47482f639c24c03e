//! The channel to core: one request at a time, and what core says unasked.
//!
//! While an answer is awaited, the supervisor's heartbeats are answered: core answers at once, but not
//! while it loads a kernel.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::gdb::{DebugAnswer, DebugReport, DebugRequest, GdbCommand, StopReason};
use bulkhead_protocol::start::Nothing;
use bulkhead_runtime::{Helper, Incoming, RuntimeError};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::readiness::wait_readable;

use crate::fault::Fault;

/// How long core may take: it loads kernels between two requests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The supervisor, as far as this process listens to it.
pub trait Hears: AsFd {
    /// Answers heartbeats, with so many requests done. An error: the process is to end.
    fn hear(&self, progress: u64) -> Result<(), Fault>;
}

/// The real one.
#[derive(Debug)]
pub struct Supervisor(Helper<GdbCommand, Nothing>);

impl From<Helper<GdbCommand, Nothing>> for Supervisor {
    fn from(helper: Helper<GdbCommand, Nothing>) -> Self {
        Self(helper)
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Hears for Supervisor {
    fn hear(&self, progress: u64) -> Result<(), Fault> {
        while let Some(incoming) = self.0.try_receive()? {
            match incoming {
                Incoming::Heartbeat(number) => self.0.alive(number, progress)?,
                Incoming::Role(..) | Incoming::Stop => return Err(RuntimeError::Closed.into()),
            }
        }
        Ok(())
    }
}

/// Core, and the supervisor beside it.
pub struct Link {
    core: Channel,
    supervisor: Box<dyn Hears>,
    /// vCPUs of the machine.
    pub vcpus: u8,
    /// The last unasked stop that nobody has taken.
    stopped: Option<(u8, StopReason)>,
    answered: u64,
}

impl Link {
    /// To a core with so many vCPUs.
    pub fn new(core: Channel, vcpus: u8, supervisor: impl Hears + 'static) -> Self {
        Self { core, supervisor: Box::new(supervisor), vcpus, stopped: None, answered: 0 }
    }

    /// Answers the supervisor.
    pub fn hear_supervisor(&self) -> Result<(), Fault> {
        self.supervisor.hear(self.answered)
    }

    /// Asks core and waits for the answer.
    pub fn ask(&mut self, request: &DebugRequest) -> Result<DebugAnswer, Fault> {
        self.core.send(request, &[])?;
        let deadline = Deadline::after(PATIENCE);
        loop {
            match self.core.try_receive::<DebugReport>()? {
                Some((DebugReport::Answer(answer), _)) => {
                    self.answered += 1;
                    return Ok(answer);
                }
                Some((DebugReport::Stopped { cpu, why }, _)) => self.stopped = Some((cpu, why)),
                None if deadline.has_passed() => return Err(ChannelError::Deadline.into()),
                None => {
                    let both = [self.core.as_fd(), self.supervisor.as_fd()];
                    let [_, supervisor] = wait_readable(both, Some(deadline.remaining()))?;
                    if supervisor {
                        self.hear_supervisor()?;
                    }
                }
            }
        }
    }

    /// Asks for something that is done or refused.
    pub fn order(&mut self, request: &DebugRequest) -> Result<(), Fault> {
        match self.ask(request)? {
            DebugAnswer::Done => Ok(()),
            DebugAnswer::Refused(reason) => Err(Fault::Refused(reason)),
            _ => Err(Fault::Answer),
        }
    }

    /// Takes what core has said unasked.
    pub fn hear_core(&mut self) -> Result<(), Fault> {
        loop {
            match self.core.try_receive::<DebugReport>() {
                Ok(Some((DebugReport::Stopped { cpu, why }, _))) => self.stopped = Some((cpu, why)),
                Ok(Some((DebugReport::Answer(_), _))) => return Err(Fault::Answer),
                Ok(None) => return Ok(()),
                // A last word comes first.
                Err(ChannelError::Closed) if self.stopped.is_some() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The stop that core has told of.
    pub fn take_stop(&mut self) -> Option<(u8, StopReason)> {
        self.stopped.take().filter(|(cpu, _)| *cpu < self.vcpus)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core.as_fd()
    }
}
