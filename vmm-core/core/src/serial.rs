//! The serial port's stream: a socket at whose other end `bulkhead run` or a sink sits.
//!
//! Called by the event loop when the UART wakes it or the socket has news. Never waits: every call on
//! the socket says so, whatever flags its other end has set.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bulkhead_machine::uart::{Drained, Uart};
use bulkhead_sys::poller::Interest;
use bulkhead_sys::seqpacket;

/// Both directions.
pub struct Serial {
    socket: OwnedFd,
    uart: Arc<Uart>,
    /// The reader is there, as far as we know.
    output: bool,
    /// The writer may still write.
    input: bool,
}

impl Serial {
    /// Connects the port with its stream.
    pub fn new(socket: OwnedFd, uart: Arc<Uart>) -> Self {
        Self { socket, uart, output: true, input: true }
    }

    /// Moves what can be moved, and says what to watch the socket for.
    pub fn pump(&mut self) -> Option<Interest> {
        let blocked = self.drain();
        let hungry = self.feed();
        match (hungry, blocked) {
            (true, true) => Some(Interest::ReadWrite),
            (true, false) => Some(Interest::Read),
            (false, true) => Some(Interest::Write),
            (false, false) => None,
        }
    }

    /// Whether output is waiting for the reader.
    fn drain(&mut self) -> bool {
        if !self.output {
            // Nobody will ever read it; the guest must not wait for that.
            self.uart.drain(|bytes| Ok(bytes.len()));
            return false;
        }
        match self.uart.drain(|bytes| seqpacket::send_some(self.socket.as_fd(), bytes, &[])) {
            Drained::All => false,
            Drained::Blocked => true,
            Drained::ReaderGone => {
                self.output = false;
                false
            }
        }
    }

    /// Whether the guest would take more input.
    fn feed(&mut self) -> bool {
        while self.input {
            let room = self.uart.input_room();
            if room == 0 {
                return false;
            }
            let mut bytes = vec![0; room];
            match seqpacket::receive(self.socket.as_fd(), &mut bytes).map(|received| received.len) {
                Ok(0) => self.input = false,
                Ok(count) => {
                    self.uart.input(&bytes[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(_) => self.input = false,
            }
        }
        false
    }
}

impl AsFd for Serial {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
