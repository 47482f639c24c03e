//! One client, from its connection to its end.
//!
//! ```text
//!  connected: guest stopped ─► Idle ── c, s ──► Running ── stop of core, Ctrl-C ──► Idle …
//!                               └──── D, k, hang-up, nonsense ──► guest detached, socket closed
//! ```
//!
//! The states in between are `gdbstub`'s. Bytes are fed one by one, and only while nothing waits to be
//! sent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_protocol::gdb::{DebugRequest, StopReason};
use bulkhead_sys::poller::{Interest, Poller};
use bulkhead_sys::seqpacket;
use gdbstub::common::Signal;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder, GdbStubError, MultiThreadStopReason};

use crate::door::{CLIENT, CORE};
use crate::fault::Fault;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::target::{Guest, thread};

/// Longest packet: a write of 8 KiB in hexadecimal digits.
const PACKET: usize = (16 << 10) + 64;

/// Bytes read from a client before everybody else gets a turn.
const TURN: usize = 4096;

type Machine<'a, 'l> = GdbStubStateMachine<'a, Guest<'l>, Outbox>;

/// What `gdbstub` made of a client's bytes.
type Fed<'a, 'l> = Result<Machine<'a, 'l>, GdbStubError<Fault, io::Error>>;

/// How a session went on.
enum Turn<'a, 'l> {
    On(Machine<'a, 'l>),
    /// It is over; why, if that is worth a line.
    Over(Option<String>),
}

/// Serves a client until it leaves or breaks the protocol. The guest is let go then.
pub fn serve(client: OwnedFd, poller: &Poller, link: &mut Link) -> Result<(), Fault> {
    bulkhead_runtime::log("gdb: a debugger has connected: the guest is stopped");
    // What core told the one before.
    link.hear_core()?;
    link.take_stop();
    link.order(&DebugRequest::Stop)?;
    poller.add(&*link, CORE, Interest::Read)?;
    poller.add(&client, CLIENT, Interest::Read)?;
    let ended = converse(&client, poller, link);
    poller.remove(&client)?;
    poller.remove(&*link)?;
    let detached = link.order(&DebugRequest::Detach);
    let why = ended?.map(|why| format!(" ({why})")).unwrap_or_default();
    bulkhead_runtime::log(&format!("gdb: the debugger has gone{why}: the guest goes on"));
    detached
}

/// Until the client leaves; why, if that is worth a line.
fn converse(client: &OwnedFd, poller: &Poller, link: &mut Link) -> Result<Option<String>, Fault> {
    let mut buffer = vec![0; PACKET];
    let outbox = Outbox::default();
    let stub = GdbStubBuilder::new(outbox.clone()).with_packet_buffer(&mut buffer).build();
    let stub = stub.map_err(|error| Fault::Refused(error.to_string()))?;
    let mut guest = Guest::new(link);
    let mut machine = match settle(stub.run_state_machine(&mut guest))? {
        Turn::On(machine) => machine,
        Turn::Over(why) => return Ok(why),
    };
    let mut news = Vec::new();
    loop {
        let interest = if outbox.is_empty() { Interest::Read } else { Interest::Write };
        poller.modify(client, CLIENT, interest)?;
        news.clear();
        poller.wait(None, &mut news)?;
        guest.link().hear_core()?;
        let mut bytes = [0; TURN];
        let has_news = news.iter().any(|event| event.token == CLIENT);
        if has_news && outbox.send(client.as_fd()).is_err() {
            return Ok(None);
        }
        let count = match outbox.is_empty() && has_news {
            false => 0,
            true => match seqpacket::receive(client.as_fd(), &mut bytes) {
                Ok(received) if received.len == 0 => return Ok(None),
                Ok(received) => received.len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Ok(None),
            },
        };
        let mut fed = Turn::On(machine);
        for byte in bytes.iter().take(count) {
            fed = match fed {
                Turn::On(machine) => feed(machine, &mut guest, *byte)?,
                over => over,
            };
        }
        if let Turn::On(machine) = fed {
            fed = tell_stop(machine, &mut guest)?;
        }
        // An error is a hang-up, which the next turn sees.
        let _ = outbox.send(client.as_fd());
        machine = match fed {
            Turn::On(machine) => machine,
            Turn::Over(why) => return Ok(why),
        };
        guest.link().hear_supervisor()?;
    }
}

fn feed<'a, 'l>(
    machine: Machine<'a, 'l>,
    guest: &mut Guest<'l>,
    byte: u8,
) -> Result<Turn<'a, 'l>, Fault> {
    guest.begin_packet();
    let fed = match machine {
        GdbStubStateMachine::Idle(idle) => idle.incoming_data(guest, byte),
        GdbStubStateMachine::Running(running) => running.incoming_data(guest, byte),
        other => Ok(other),
    };
    match settle(fed)? {
        Turn::On(GdbStubStateMachine::CtrlCInterrupt(interrupted)) => {
            guest.link().order(&DebugRequest::Stop)?;
            let why = match guest.link().take_stop() {
                Some(stop) => reason(guest, stop)?,
                None => interrupt(guest),
            };
            settle(interrupted.interrupt_handled(guest, Some(why)))
        }
        turn => Ok(turn),
    }
}

/// Tells a client that waits for it that the guest has stopped.
fn tell_stop<'a, 'l>(
    machine: Machine<'a, 'l>,
    guest: &mut Guest<'l>,
) -> Result<Turn<'a, 'l>, Fault> {
    match machine {
        GdbStubStateMachine::Running(running) => match guest.link().take_stop() {
            Some(stop) => {
                let why = reason(guest, stop)?;
                settle(running.report_stop(guest, why))
            }
            None => Ok(Turn::On(running.into())),
        },
        other => Ok(Turn::On(other)),
    }
}

fn interrupt(guest: &mut Guest<'_>) -> MultiThreadStopReason<u64> {
    MultiThreadStopReason::SignalWithThread { tid: guest.last_thread(), signal: Signal::SIGINT }
}

fn reason(
    guest: &mut Guest<'_>,
    (cpu, why): (u8, StopReason),
) -> Result<MultiThreadStopReason<u64>, Fault> {
    let tid = thread(cpu);
    guest.note_thread(tid);
    Ok(match why {
        StopReason::Step => {
            MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP }
        }
        StopReason::Code => guest.breakpoint_reason(cpu)?,
        StopReason::Data(addr) => guest.breakpoints.watch_reason(tid, addr),
        StopReason::Crashed => {
            MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGSEGV }
        }
        StopReason::Over => MultiThreadStopReason::Exited(0),
    })
}

/// The process's own faults are its end; the client's are the session's.
fn settle<'a, 'l>(fed: Fed<'a, 'l>) -> Result<Turn<'a, 'l>, Fault> {
    match fed {
        Ok(GdbStubStateMachine::Disconnected(ended)) => Ok(Turn::Over(match ended.get_reason() {
            DisconnectReason::Kill => Some("it may not kill".to_owned()),
            _ => None,
        })),
        Ok(machine) => Ok(Turn::On(machine)),
        Err(error) => {
            let why = error.to_string();
            match error.into_target_error() {
                Some(fault) if !fault.is_the_clients() => Err(fault),
                _ => Ok(Turn::Over(Some(why))),
            }
        }
    }
}
