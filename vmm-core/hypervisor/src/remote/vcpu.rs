//! One vCPU of an engine in another process.

use std::sync::Arc;

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;

use super::wire::{Halt, Order, Turn};
use crate::debug::GuestDebug;
use crate::engine::{Kick, Vcpu};
use crate::error::EngineError;
use crate::exit::Exit;
use crate::x86_64::VcpuState;

/// A guest may run for as long as it likes; a dead engine is seen at once.
const FOR_EVER: std::time::Duration = std::time::Duration::from_secs(u32::MAX as u64);

/// Longest access in bytes.
const LONGEST: u8 = 8;

/// The vCPU.
pub(super) struct RemoteVcpu {
    turns: Channel,
    kick: Arc<Doorbell>,
    /// The bytes of the access that the last exit reported.
    bytes: [u8; 8],
}

impl RemoteVcpu {
    pub fn new(turns: Channel, kick: Doorbell) -> Self {
        Self { turns, kick: Arc::new(kick), bytes: [0; 8] }
    }

    /// The engine is told what a read has found with whatever it is told next.
    fn turn(&mut self, order: Order) -> Result<Halt, EngineError> {
        let turn = Turn { answer: u64::from_le_bytes(self.bytes), order };
        self.bytes = [0; 8];
        let lost = |error| match error {
            ChannelError::Closed => EngineError::Gone,
            other => EngineError::remote("run", other),
        };
        self.turns.send_by(&turn, &[], Deadline::after(FOR_EVER)).map_err(lost)?;
        match self.turns.receive_by(Deadline::after(FOR_EVER)).map_err(lost)?.0 {
            Halt::Failed(reason) => Err(EngineError::remote("run", reason)),
            halt => Ok(halt),
        }
    }

    /// Of a port: nothing else has just these widths.
    fn port_bytes(&mut self, width: u8, value: u64) -> Result<&mut [u8], EngineError> {
        match width {
            1 | 2 | 4 => self.bytes_of(width, value),
            _ => Err(EngineError::remote("run", "a port of a width that there is not")),
        }
    }

    fn bytes_of(&mut self, width: u8, value: u64) -> Result<&mut [u8], EngineError> {
        if !(1..=LONGEST).contains(&width) {
            return Err(EngineError::remote("run", "an access of a width that there is not"));
        }
        self.bytes = value.to_le_bytes();
        let bytes = self.bytes.get_mut(..usize::from(width));
        bytes.ok_or(EngineError::Bug("a width that was checked"))
    }
}

impl Vcpu for RemoteVcpu {
    fn run(&mut self) -> Result<Exit<'_>, EngineError> {
        Ok(match self.turn(Order::Run)? {
            Halt::PortRead { port, width } => {
                Exit::PioIn { port, width, data: self.port_bytes(width, 0)? }
            }
            Halt::PortWrite { port, width, value } => {
                Exit::PioOut { port, width, data: self.port_bytes(width, value)? }
            }
            Halt::MemoryRead { address, width } => {
                Exit::MmioRead { address, data: self.bytes_of(width, 0)? }
            }
            Halt::MemoryWrite { address, width, value } => {
                Exit::MmioWrite { address, data: self.bytes_of(width, value)? }
            }
            Halt::Eoi(vector) => Exit::Eoi(vector),
            Halt::Debug(stop) => Exit::Debug(stop),
            Halt::Hlt => Exit::Hlt,
            Halt::Shutdown => Exit::Shutdown,
            Halt::Interrupted => Exit::Interrupted,
            Halt::Done | Halt::State(_) | Halt::Failed(_) => {
                return Err(EngineError::remote("run", "an answer to nothing"));
            }
        })
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        Arc::new(RemoteKick(Arc::clone(&self.kick)))
    }

    fn state(&mut self) -> Result<Box<VcpuState>, EngineError> {
        match self.turn(Order::State)? {
            Halt::State(state) => Ok(state),
            _ => Err(EngineError::remote("tell a vCPU's state", "another answer")),
        }
    }

    fn excuse_pause(&mut self) {
        // An engine that is gone is told of by the next run.
        let _ = self.turn(Order::ExcusePause);
    }

    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        match self.turn(Order::SetState(Box::new(state.clone())))? {
            Halt::Done => Ok(()),
            _ => Err(EngineError::remote("take a vCPU's state", "another answer")),
        }
    }

    fn set_registers(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        match self.turn(Order::SetRegisters(Box::new(state.clone())))? {
            Halt::Done => Ok(()),
            _ => Err(EngineError::remote("take a vCPU's registers", "another answer")),
        }
    }

    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), EngineError> {
        match self.turn(Order::SetGuestDebug(Box::new(debug.clone())))? {
            Halt::Done => Ok(()),
            _ => Err(EngineError::remote("take a vCPU's breakpoints", "another answer")),
        }
    }
}

struct RemoteKick(Arc<Doorbell>);

impl Kick for RemoteKick {
    fn kick(&self) {
        self.0.ring_if_quiet();
    }
}
