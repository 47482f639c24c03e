//! A vCPU's thread: turns in, halts out.

use std::time::Duration;

use bulkhead_channel::{Channel, ChannelError, Message};
use bulkhead_hypervisor::remote::wire::{Halt, Order, Turn};
use bulkhead_hypervisor::{EngineError, Exit, Vcpu};
use bulkhead_sys::clock::Deadline;

use super::{Seat, ServeError};

/// A machine may be paused for as long as its owner likes; a dead core is seen at once.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Runs a vCPU until core hangs up (`Ok`) or breaks the protocol.
pub fn live(seat: Seat) -> Result<(), ServeError> {
    let Seat { mut vcpu, turns } = seat;
    match turn_by_turn(&mut *vcpu, &Turns(turns)) {
        Err(ChannelError::Closed) => Ok(()),
        other => Ok(other?),
    }
}

struct Turns(Channel);

impl Turns {
    fn next(&self) -> Result<Turn, ChannelError> {
        Ok(self.0.receive_by(Deadline::after(FOR_EVER))?.0)
    }

    fn tell(&self, halt: Halt) -> Result<Turn, ChannelError> {
        send(&self.0, &halt)?;
        self.next()
    }
}

fn send<M: Message>(channel: &Channel, message: &M) -> Result<(), ChannelError> {
    channel.send_by(message, &[], Deadline::after(FOR_EVER))
}

fn turn_by_turn(vcpu: &mut dyn Vcpu, turns: &Turns) -> Result<(), ChannelError> {
    let mut turn = turns.next()?;
    loop {
        turn = match turn.order {
            Order::Run => run(vcpu, turns)?,
            Order::State => turns.tell(match vcpu.state() {
                Ok(state) => Halt::State(state),
                Err(error) => Halt::Failed(error.to_string()),
            })?,
            Order::SetState(state) => turns.tell(done(vcpu.set_state(&state)))?,
            Order::SetRegisters(state) => turns.tell(done(vcpu.set_registers(&state)))?,
            Order::SetGuestDebug(debug) => turns.tell(done(vcpu.set_guest_debug(&debug)))?,
            Order::ExcusePause => {
                vcpu.excuse_pause();
                turns.tell(Halt::Done)?
            }
        };
    }
}

fn done(result: Result<(), EngineError>) -> Halt {
    match result {
        Ok(()) => Halt::Done,
        Err(error) => Halt::Failed(error.to_string()),
    }
}

/// Runs until something has to be done outside, tells it, and returns the next turn. A read is completed
/// with what that turn brings, whatever its order.
fn run(vcpu: &mut dyn Vcpu, turns: &Turns) -> Result<Turn, ChannelError> {
    let exit = match vcpu.run() {
        Ok(exit) => exit,
        Err(error) => return turns.tell(Halt::Failed(error.to_string())),
    };
    turns.tell(match exit {
        Exit::PioIn { port, width, data } => {
            return read(turns, data, |width| Halt::PortRead { port, width }, width.into());
        }
        Exit::MmioRead { address, data } => {
            let len = data.len();
            return read(turns, data, |width| Halt::MemoryRead { address, width }, len);
        }
        Exit::PioOut { port, data, .. } => match number(data) {
            Some((width, value)) => Halt::PortWrite { port, width, value },
            None => unknown("a string of writes"),
        },
        Exit::MmioWrite { address, data } => match number(data) {
            Some((width, value)) => Halt::MemoryWrite { address, width, value },
            None => unknown("a long write"),
        },
        Exit::Eoi(vector) => Halt::Eoi(vector),
        Exit::Debug(stop) => Halt::Debug(stop),
        Exit::Hlt => Halt::Hlt,
        Exit::Shutdown => Halt::Shutdown,
        Exit::Interrupted => Halt::Interrupted,
        other => unknown(&format!("{other:?}")),
    })
}

/// Tells of a read of `len` bytes and fills in what the next turn has found.
fn read(
    turns: &Turns,
    data: &mut [u8],
    halt: impl Fn(u8) -> Halt,
    len: usize,
) -> Result<Turn, ChannelError> {
    if data.len() != len || !(1..=8).contains(&len) {
        return turns.tell(unknown("a string of reads"));
    }
    let turn = turns.tell(halt(len as u8))?;
    for (place, byte) in data.iter_mut().zip(turn.answer.to_le_bytes()) {
        *place = byte;
    }
    Ok(turn)
}

/// One access as a number, and its width.
fn number(data: &[u8]) -> Option<(u8, u64)> {
    if !(1..=8).contains(&data.len()) {
        return None;
    }
    let value = data.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((data.len() as u8, value))
}

fn unknown(what: &str) -> Halt {
    Halt::Failed(format!("the engine reports {what}"))
}
