//! One process of a post, from the order to start it until it is reaped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_channel::{Channel, ChannelError, Message};
use bulkhead_protocol::block::BlockEvent;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::ToSupervisor;
use bulkhead_protocol::core::CoreEvent;
use bulkhead_protocol::device::DeviceEvent;
use bulkhead_protocol::launch::{Layer, LayerState};
use bulkhead_protocol::nbd::NbdEvent;
use bulkhead_protocol::soft_cpu::SoftCpuEvent;
use bulkhead_protocol::start::{FromHelper, Nothing, SealReport, ToHelper};
use bulkhead_sys::pidfd::PidFd;

use super::allowance::Allowance;
use super::link::Link;
use super::log::Log;
use crate::attest::Given;

/// Messages a helper may send in one second, in the long run and at once. Only `control`, which
/// speaks for many clients, has more to say.
const MESSAGES: (u32, u32) = (200, 400);

/// A process and its descriptors on our side.
#[derive(Debug)]
pub struct Process {
    /// Number of the order by which it was started.
    pub ticket: u64,
    /// Its channel.
    pub link: Link,
    /// Its log.
    pub log: Log,
    /// What the launcher said of it.
    pub birth: Option<Birth>,
    /// What it says of its seal.
    pub seal: Option<SealReport>,
    /// Why the supervisor killed it, if it did.
    pub condemned: Option<String>,
    /// It was killed for no fault of its own, and its successor comes after this time.
    pub retired: Option<Duration>,
    /// What core blames it for, if it does at this moment.
    pub suspicion: Option<String>,
    /// Inodes of the descriptors that it was given: channel and log pipe.
    pub given: Given,
    messages: Allowance,
}

/// A process that runs.
#[derive(Debug)]
pub struct Birth {
    /// Its pid as we see it.
    pub pid: i32,
    /// Itself.
    pub pidfd: PidFd,
    /// Layers of its jail that the launcher put in force.
    pub layers: Vec<(Layer, LayerState)>,
}

/// Descriptors for a process that is to be started: its end of the channel, its log pipe.
pub type Theirs = (OwnedFd, OwnedFd);

/// What a helper said.
#[derive(Debug)]
pub enum News {
    /// It is sealed.
    Sealed(SealReport),
    /// Its plan is live.
    Ready,
    /// It answers a heartbeat.
    Alive {
        /// The heartbeat.
        number: u64,
        /// Requests it completed.
        progress: u64,
    },
    /// It has completed a request.
    Progressed,
    /// From core.
    Core(CoreEvent),
    /// From soft-cpu.
    SoftCpu(SoftCpuEvent),
    /// From a device process.
    Device(DeviceEvent),
    /// From a block-layer.
    Block(BlockEvent),
    /// From an nbd-server.
    Nbd(NbdEvent),
    /// From control.
    Control(ToSupervisor),
}

/// Why a helper cannot be listened to any more.
#[derive(Debug, thiserror::Error)]
pub enum Deaf {
    /// It closed its channel: it is dying, or broken.
    #[error("it closed its channel")]
    Closed,
    /// It broke the protocol.
    #[error("{0}")]
    Protocol(ChannelError),
    /// It says more than any helper has to say.
    #[error("it floods its channel")]
    Flood,
}

impl Process {
    /// Descriptors for a new process.
    pub fn prepare(ticket: u64, now: Instant) -> std::io::Result<(Self, Theirs)> {
        let (ours, theirs) = Channel::pair()?;
        let (log, pipe) = Log::pipe(now)?;
        let theirs = theirs.into_fd();
        let process = Self {
            ticket,
            link: Link::new(ours),
            log,
            birth: None,
            seal: None,
            condemned: None,
            retired: None,
            suspicion: None,
            given: Given { channel: inode(&theirs)?, log: inode(&pipe)? },
            messages: Allowance::new(now, MESSAGES.0, MESSAGES.1),
        };
        Ok((process, (theirs, pipe)))
    }

    /// Sends a command of the class's own.
    pub fn command<C>(&mut self, command: C, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError>
    where
        C: Message + 'static,
    {
        self.link.send(ToHelper::Role(command), fds)
    }

    /// Asks whether it is alive.
    pub fn heartbeat(&mut self, number: u64) -> Result<(), ChannelError> {
        self.link.send(ToHelper::<Nothing>::Heartbeat(number), &[])
    }

    /// Asks it to finish.
    pub fn stop(&mut self) -> Result<(), ChannelError> {
        self.link.send(ToHelper::<Nothing>::Stop, &[])
    }

    /// Takes the next message of a helper of `class`, if one is there.
    pub fn hear(&mut self, class: ProcessClass, now: Instant) -> Result<Option<News>, Deaf> {
        let news = match class {
            ProcessClass::Core => self.next(News::Core),
            ProcessClass::SoftCpu | ProcessClass::SoftCpuJit => self.next(News::SoftCpu),
            ProcessClass::BlockLayer => self.next(News::Block),
            ProcessClass::NbdServer => self.next(News::Nbd),
            ProcessClass::Control => return self.next(News::Control),
            ProcessClass::Sink | ProcessClass::Gdb => {
                self.next(|nothing: Nothing| match nothing {})
            }
            _ => self.next(News::Device),
        }?;
        match news {
            // As many as there were orders: one that nobody asked for costs it its life.
            Some(News::Block(BlockEvent::Answer { .. })) => Ok(news),
            Some(_) if !self.messages.take(now) => Err(Deaf::Flood),
            news => Ok(news),
        }
    }

    fn next<E: Message>(&self, own: impl Fn(E) -> News) -> Result<Option<News>, Deaf> {
        let message = match self.link.receive::<FromHelper<E>>() {
            Ok(Some((message, _))) => message,
            Ok(None) => return Ok(None),
            Err(ChannelError::Closed) => return Err(Deaf::Closed),
            Err(error) => return Err(Deaf::Protocol(error)),
        };
        Ok(Some(match message {
            FromHelper::Sealed(report) => News::Sealed(report),
            FromHelper::Ready => News::Ready,
            FromHelper::Alive { number, progress } => News::Alive { number, progress },
            FromHelper::Progressed => News::Progressed,
            FromHelper::Role(event) => own(event),
        }))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

fn inode(fd: &OwnedFd) -> std::io::Result<u64> {
    Ok(nix::sys::stat::fstat(fd)?.st_ino)
}
