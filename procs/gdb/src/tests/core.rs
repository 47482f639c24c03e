//! A core that is played: it has two vCPUs, some memory, and keeps what it was told.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::gdb::{
    Breakpoint, DebugAnswer, DebugRegisters, DebugReport, DebugRequest, Motion, StopReason,
};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;

use crate::fault::Fault;
use crate::link::{Hears, Link};

use super::PATIENCE;

/// An address that it refuses.
const BAD: u64 = 0xbad;
/// Its memory.
const FIRST: u64 = 0x1000;
const LEN: usize = 0x8000;

/// What it was told, but for questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Stop,
    Resume(Vec<Motion>),
    Watch(u64, u8, bool),
    Detach,
}

/// Its state, under one lock, so that what is said and what is heard have one order.
struct State {
    end: Channel,
    said: Vec<Said>,
    runs: bool,
    rip: u64,
    memory: Vec<u8>,
    vcpus: u8,
}

/// The core.
pub struct Core {
    state: Arc<Mutex<State>>,
    thread: JoinHandle<()>,
}

/// A supervisor that says nothing.
struct Silence(Doorbell);

impl AsFd for Silence {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Hears for Silence {
    fn hear(&self, _progress: u64) -> Result<(), Fault> {
        Ok(())
    }
}

/// The other side's way to it.
pub fn link(end: Channel, vcpus: u8) -> Link {
    Link::new(end, vcpus, Silence(Doorbell::new().unwrap()))
}

impl Core {
    /// A core, and the end of the channel for the other side.
    pub fn start(vcpus: u8) -> (Self, Channel) {
        let (end, theirs) = Channel::pair().unwrap();
        let listening = Channel::from_fd(end.as_fd().try_clone_to_owned().unwrap());
        let memory = (0..LEN).map(|at| at as u8).collect();
        let state = State { end, said: Vec::new(), runs: true, rip: 0, memory, vcpus };
        let state = Arc::new(Mutex::new(state));
        let own = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            loop {
                match listening.receive_by::<DebugRequest>(Deadline::after(PATIENCE)) {
                    Ok((request, _)) => own.lock().unwrap().hear(request),
                    Err(ChannelError::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        (Self { state, thread }, theirs)
    }

    /// Stops for `why`, once it runs.
    pub fn stop(&self, cpu: u8, why: StopReason, rip: u64) {
        let end = Deadline::after(PATIENCE);
        loop {
            let mut state = self.state.lock().unwrap();
            if state.runs {
                (state.runs, state.rip) = (false, rip);
                state.end.send(&DebugReport::Stopped { cpu, why }, &[]).unwrap();
                return;
            }
            drop(state);
            assert!(!end.has_passed(), "it never runs");
            std::thread::yield_now();
        }
    }

    /// What it was told, once the other side has hung up.
    pub fn end(self) -> Vec<Said> {
        self.thread.join().expect("nothing unforeseen");
        self.state.lock().unwrap().said.clone()
    }
}

impl State {
    fn hear(&mut self, request: DebugRequest) {
        let answer = self.answer(request);
        // Who has gone misses it.
        let _ = self.end.send(&DebugReport::Answer(answer), &[]);
    }

    fn answer(&mut self, request: DebugRequest) -> DebugAnswer {
        let refused = || DebugAnswer::Refused("no".into());
        match request {
            DebugRequest::Stop => {
                (self.runs, _) = (false, self.said.push(Said::Stop));
            }
            DebugRequest::Detach => {
                (self.runs, _) = (true, self.said.push(Said::Detach));
            }
            _ if self.runs => return refused(),
            DebugRequest::Resume(motions) => {
                (self.runs, _) = (true, self.said.push(Said::Resume(motions)));
            }
            DebugRequest::Registers { cpu } if cpu < self.vcpus => {
                let mut all = DebugRegisters { fx: vec![0; 512], ..Default::default() };
                (all.general[0], all.rip) = (cpu.into(), self.rip);
                return DebugAnswer::Registers(Box::new(all));
            }
            DebugRequest::Read { address, len, .. } => {
                let at = address.checked_sub(FIRST).and_then(|at| usize::try_from(at).ok());
                let rest = at.and_then(|at| self.memory.get(at..)).filter(|rest| !rest.is_empty());
                return match rest {
                    Some(rest) => DebugAnswer::Memory(rest[..rest.len().min(len.into())].to_vec()),
                    None => refused(),
                };
            }
            DebugRequest::Write { address, bytes, .. } => {
                let at = address.checked_sub(FIRST).and_then(|at| usize::try_from(at).ok());
                let end = at.and_then(|at| at.checked_add(bytes.len()));
                match at.zip(end).and_then(|(at, end)| self.memory.get_mut(at..end)) {
                    Some(place) => place.copy_from_slice(&bytes),
                    None => return refused(),
                }
            }
            DebugRequest::Break(Breakpoint::Code(BAD)) => return refused(),
            DebugRequest::Break(Breakpoint::Data { address, len, .. }) => {
                self.said.push(Said::Watch(address, len, true));
            }
            DebugRequest::Unbreak(Breakpoint::Data { address, len, .. }) => {
                self.said.push(Said::Watch(address, len, false));
            }
            DebugRequest::Break(_) | DebugRequest::Unbreak(_) => {}
            DebugRequest::SetRegisters { cpu, .. } if cpu < self.vcpus => {}
            DebugRequest::Registers { .. } | DebugRequest::SetRegisters { .. } => return refused(),
        }
        DebugAnswer::Done
    }
}
