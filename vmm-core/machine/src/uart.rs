//! The first serial port: a 16550 whose output is never lost.
//!
//! Register semantics are vm-superio's. Around it stands a bounded outbox between guest and reader:
//! vCPU threads write into it, `core`'s event loop drains it into a socket without waiting. When the
//! reader is slow and the outbox full, the line status says that the transmitter is busy, so the guest
//! waits; when there is room again, the transmitter interrupt is raised once more. Only a guest that
//! writes without looking loses what it writes.
//!
//! Input goes the other way: `core` offers bytes as long as the receive FIFO has room.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};

use crate::bus::BusDevice;
use crate::hold::hold;
use crate::irq::IrqLine;

/// Bytes between guest and reader. Enough that a boot log does not stall on a scheduling delay.
const OUTBOX: usize = 64 * 1024;
/// A driver fills its 16-byte FIFO after one look at the line status. So "busy" begins while there is
/// still room for that, from each of 16 processors.
const RESERVE: usize = 16 * 16;

const REGISTER_INTERRUPT_ENABLE: u8 = 1;
const REGISTER_INTERRUPT_IDENTIFICATION: u8 = 2;
const REGISTER_LINE_CONTROL: u8 = 3;
const REGISTER_LINE_STATUS: u8 = 5;
const REGISTERS: u64 = 8;

/// Divisor latch access: registers 0 and 1 mean something else while it is set.
const DIVISOR_LATCH: u8 = 1 << 7;
/// Transmitter holding register empty, transmitter empty.
const TRANSMITTER_IDLE: u8 = 1 << 5 | 1 << 6;
const IDENTIFICATION_NONE: u8 = 1;
const IDENTIFICATION_TRANSMITTER: u8 = 1 << 1;

/// What wakes the thread that drains and feeds: called when the outbox is no longer empty and when
/// the receive FIFO has been emptied.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// How far a drain came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything is with the reader.
    All,
    /// The reader takes no more for now.
    Blocked,
    /// The reader is gone; output is thrown away.
    ReaderGone,
}

struct Edge(IrqLine);

impl Trigger for Edge {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.pulse();
        Ok(())
    }
}

struct Events(Wake);

impl SerialEvents for Events {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        (self.0)();
    }
}

/// The bytes on their way out.
#[derive(Default)]
struct Outbox(VecDeque<u8>);

impl Outbox {
    fn is_busy(&self) -> bool {
        self.0.len() > OUTBOX - RESERVE
    }
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(OUTBOX - self.0.len());
        self.0.extend(bytes.iter().take(taken));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct State {
    serial: Serial<Edge, Events, Outbox>,
    /// The guest saw a busy transmitter and is owed an interrupt when it is idle again.
    owed: bool,
}

/// The port.
pub struct Uart {
    state: Mutex<State>,
    interrupt: IrqLine,
    wake: Wake,
}

impl Uart {
    /// An idle port.
    pub fn new(interrupt: IrqLine, wake: Wake) -> Arc<Self> {
        let serial = fresh(&interrupt, &wake, Outbox::default());
        Arc::new(Self { state: Mutex::new(State { serial, owed: false }), interrupt, wake })
    }

    /// As at power-on, except that output on its way still arrives.
    pub fn reset(&self) {
        let mut state = hold(&self.state);
        let outbox = std::mem::take(state.serial.writer_mut());
        state.serial = fresh(&self.interrupt, &self.wake, outbox);
        state.owed = false;
    }

    /// Offers what the guest wrote to `send`, which takes what it can without waiting.
    pub fn drain(&self, mut send: impl FnMut(&[u8]) -> io::Result<usize>) -> Drained {
        let mut state = hold(&self.state);
        let outcome = loop {
            let outbox = &mut state.serial.writer_mut().0;
            let (front, _) = outbox.as_slices();
            if front.is_empty() {
                break Drained::All;
            }
            match send(front) {
                Ok(sent) if sent > 0 => drop(outbox.drain(..sent.min(outbox.len()))),
                Ok(_) => break Drained::Blocked,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break Drained::Blocked,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        outbox.clear();
                        break Drained::ReaderGone;
                    }
                },
            }
        };
        state.settle();
        outcome
    }

    /// How many bytes of input there is room for.
    pub fn input_room(&self) -> usize {
        hold(&self.state).serial.fifo_capacity()
    }

    /// Gives the guest input; returns how many bytes it took. In loop-back mode, where a 16550 hears
    /// nothing from outside, none.
    pub fn input(&self, bytes: &[u8]) -> usize {
        hold(&self.state).serial.enqueue_raw_bytes(bytes).unwrap_or(0)
    }
}

fn fresh(interrupt: &IrqLine, wake: &Wake, outbox: Outbox) -> Serial<Edge, Events, Outbox> {
    Serial::with_events(Edge(interrupt.clone()), Events(Arc::clone(wake)), outbox)
}

impl State {
    fn read(&mut self, register: u8) -> u8 {
        let value = self.serial.read(register);
        if !self.serial.writer().is_busy() {
            return value;
        }
        match register {
            REGISTER_LINE_STATUS => {
                self.owed = true;
                value & !TRANSMITTER_IDLE
            }
            REGISTER_INTERRUPT_IDENTIFICATION if value & IDENTIFICATION_TRANSMITTER != 0 => {
                self.owed = true;
                let rest = value & !IDENTIFICATION_TRANSMITTER;
                if rest & 0x0f == 0 { rest | IDENTIFICATION_NONE } else { rest }
            }
            _ => value,
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        // An error means that a byte was written to a full outbox: lost, as on a real port.
        let _ = self.serial.write(register, value);
        if register == REGISTER_LINE_CONTROL {
            self.settle();
        }
    }

    /// Pays the interrupt that is owed. Writing the enable register back asserts whatever is pending
    /// and enabled; while it is hidden behind the divisor latch, payment waits.
    fn settle(&mut self) {
        let registers = self.serial.state();
        let hidden = registers.line_control & DIVISOR_LATCH != 0;
        if self.owed && !hidden && !self.serial.writer().is_busy() {
            self.owed = false;
            let _ = self.serial.write(REGISTER_INTERRUPT_ENABLE, registers.interrupt_enable);
        }
    }
}

impl BusDevice for Uart {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = hold(&self.state);
        for (register, byte) in (offset..REGISTERS).zip(data) {
            *byte = state.read(register as u8);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = hold(&self.state);
        let was_empty = state.serial.writer().0.is_empty();
        for (register, byte) in (offset..REGISTERS).zip(data) {
            state.write(register as u8, *byte);
        }
        if was_empty && !state.serial.writer().0.is_empty() {
            (self.wake)();
        }
    }
}

#[cfg(test)]
mod tests;
