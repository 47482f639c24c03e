//! An engine behind messages: the far end of `bulkhead_hypervisor::remote`.
//!
//! ```text
//!  main thread      requests, kicks of vCPUs, calls of devices ─► interrupts
//!  vCPU thread n    turns ─► runs the guest ─► halts
//! ```
//!
//! Called by the process's main (and by tests) with its ends of the channels. Knows engines by their
//! traits alone.
//!
//! Law: no thread waits for another. The main thread never runs the guest, so that it answers at once.
//! A peer that breaks the protocol ends the process: the machine is its own.

mod report;
mod vcpu;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_hypervisor::remote::VcpuEnds;
use bulkhead_hypervisor::remote::wire::{Answer, Request, WORDS_OF_LOG};
use bulkhead_hypervisor::{EngineError, Gsi, IoEvent, Kick, Msi, Vcpu, Vm};
use bulkhead_memory::GuestRange;
use bulkhead_runtime::RuntimeError;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Event, Interest, Poller, Token};

use crate::calls::Calls;

pub use report::Report;
pub use vcpu::live;

/// The token of the supervisor's channel in the poller that [`Service::new`] is given.
pub const SUPERVISOR: Token = u64::MAX;

const CONTROL: Token = 0;
/// One for each vCPU's kick.
const FIRST_KICK: Token = 1;
/// One for each connection: its number is added.
const FIRST_CALL: Token = 1 << 16;

/// Connections that a machine may have: far more than devices have queues.
const MOST_CONNECTIONS: usize = 4096;

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Core is gone or broke the protocol.
    #[error("core: {0}")]
    Core(#[from] ChannelError),
    /// The engine itself.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The host refused.
    #[error(transparent)]
    Host(#[from] io::Error),
    /// The supervisor is gone or broke the protocol.
    #[error(transparent)]
    Supervisor(#[from] RuntimeError),
}

/// The main thread's part.
pub struct Service {
    control: Channel,
    poller: Poller,
    vm: Arc<dyn Vm>,
    kicks: Vec<(Doorbell, Arc<dyn Kick>)>,
    calls: Calls,
    writes: BTreeMap<u64, (IoEvent, Doorbell)>,
    /// Written pages that were taken and are being told.
    log: Vec<u64>,
}

/// What a vCPU's thread runs.
pub struct Seat {
    /// The vCPU.
    pub vcpu: Box<dyn Vcpu>,
    /// Where its turns come from.
    pub turns: Channel,
}

impl Service {
    /// Makes the vCPUs of `vm`. A thread has to be made for each seat.
    pub fn new(
        vm: Arc<dyn Vm>,
        control: Channel,
        vcpus: Vec<VcpuEnds>,
        poller: Poller,
    ) -> Result<(Self, Vec<Seat>), ServeError> {
        poller.add(&control, CONTROL, Interest::Read)?;
        let count = u8::try_from(vcpus.len()).map_err(|_| EngineError::Bug("too many vCPUs"))?;
        let (mut kicks, mut seats) = (Vec::new(), Vec::new());
        for (index, VcpuEnds { turns, kick }) in (0..count).zip(vcpus) {
            let vcpu = vm.create_vcpu(index, count)?;
            poller.add(&kick, FIRST_KICK + Token::from(index), Interest::Read)?;
            kicks.push((kick, vcpu.kick_handle()));
            seats.push(Seat { vcpu, turns });
        }
        let calls = Calls::new(poller.clone(), FIRST_CALL);
        Ok((
            Self { control, poller, vm, kicks, calls, writes: BTreeMap::new(), log: Vec::new() },
            seats,
        ))
    }

    /// Serves until core hangs up or breaks the protocol, or `supervisor`, which is called when something
    /// has happened at [`SUPERVISOR`], says that it is enough (`false`). The poller comes back if it was
    /// core that hung up: the supervisor is heard on.
    pub fn run(
        mut self,
        supervisor: &mut dyn FnMut() -> Result<bool, ServeError>,
    ) -> Result<Option<Poller>, ServeError> {
        let mut events = Vec::new();
        loop {
            events.clear();
            self.poller.wait(None, &mut events)?;
            for event in &events {
                match self.hear(event, supervisor) {
                    Ok(true) => {}
                    Ok(false) => return Ok(None),
                    Err(ServeError::Core(ChannelError::Closed)) => return Ok(Some(self.poller)),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn hear(
        &mut self,
        event: &Event,
        supervisor: &mut dyn FnMut() -> Result<bool, ServeError>,
    ) -> Result<bool, ServeError> {
        match event.token {
            SUPERVISOR => return supervisor(),
            CONTROL => {
                while let Some((request, fds)) = self.control.try_receive::<Request>()? {
                    let answer = match self.obey(request, fds) {
                        Ok(answer) => answer,
                        Err(error) => Answer::Refused(error.to_string()),
                    };
                    self.control.send(&answer, &[])?;
                }
            }
            token @ FIRST_CALL..SUPERVISOR => {
                if let Some(message) = self.calls.heard(token) {
                    self.vm.signal_msi(message)?;
                }
            }
            token => {
                let place = usize::try_from(token - FIRST_KICK).unwrap_or(usize::MAX);
                if let Some((bell, kick)) = self.kicks.get(place) {
                    bell.clear();
                    kick.kick();
                }
            }
        }
        Ok(true)
    }

    fn obey(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, ServeError> {
        let bell = fds.into_iter().next().map(Doorbell::from_fd);
        match (request, bell) {
            (Request::Signal((address, data)), _) => self.vm.signal_msi(Msi { address, data })?,
            (Request::WatchRing { at: (addr, len), watch }, _) => {
                let ring = GuestRange::new(addr, len);
                match watch {
                    true => self.vm.watch_ring(ring)?,
                    false => self.vm.unwatch_ring(ring)?,
                }
            }
            (Request::ExpectUnloggedWrites, _) => self.vm.expect_unlogged_writes()?,
            (Request::LogWrites(true), _) => self.vm.start_dirty_log()?,
            (Request::LogWrites(false), _) => self.vm.stop_dirty_log()?,
            (Request::WrittenPages { region, word }, _) => return self.log(region, word),
            (Request::Routes(changes), _) => {
                let message = |(address, data)| Msi { address, data };
                let changes = changes.into_iter();
                self.calls.set_routes(changes.map(|(gsi, to)| (Gsi(gsi), to.map(message))));
            }
            (Request::ConnectCall { connection, gsi }, Some(bell)) => {
                self.check_room(connection)?;
                self.calls.connect(connection, Gsi(gsi), bell)?;
            }
            (Request::ConnectKick { connection, event }, Some(bell)) => {
                self.check_room(connection)?;
                self.vm.connect_ioevent(event, bell.as_fd())?;
                self.writes.insert(connection, (event, bell));
            }
            (Request::CodeChanged { address, len }, _) => self.vm.code_changed(address, len)?,
            (Request::Disconnect { connection }, _) => {
                if let Some((event, bell)) = self.writes.remove(&connection) {
                    self.vm.disconnect_ioevent(event, bell.as_fd())?;
                }
                self.calls.disconnect(connection)?;
            }
            (Request::ConnectCall { .. } | Request::ConnectKick { .. }, None) => {
                return Err(EngineError::Bug("a connection without an eventfd").into());
            }
        }
        Ok(Answer::Done)
    }

    fn log(&mut self, region: u32, word: u32) -> Result<Answer, ServeError> {
        if word == 0 {
            self.log = self.vm.get_dirty_log(region as usize)?;
        }
        let rest = self.log.get(word as usize..).unwrap_or_default();
        Ok(Answer::Written(rest[..rest.len().min(WORDS_OF_LOG)].to_vec()))
    }

    fn check_room(&self, connection: u64) -> Result<(), EngineError> {
        let is_small = connection < SUPERVISOR - FIRST_CALL;
        let has_room = self.calls.len() + self.writes.len() < MOST_CONNECTIONS;
        match is_small && has_room {
            true => Ok(()),
            false => Err(EngineError::Bug("more connections than a machine has")),
        }
    }
}
