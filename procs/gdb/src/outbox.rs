//! What is to be sent to the client: kept until it reads, up to a bound.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use bulkhead_sys::seqpacket;
use gdbstub::conn::Connection;

/// Bytes that may wait. The longest answer is far shorter, and no request is read while one waits.
const MOST: usize = 256 << 10;

/// Both ends of it: `gdbstub` writes, the session sends.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Rc<RefCell<Vec<u8>>>);

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Sends as much as the client has room for.
    pub fn send(&self, client: BorrowedFd<'_>) -> io::Result<()> {
        let mut waiting = self.0.borrow_mut();
        while !waiting.is_empty() {
            match seqpacket::send_some(client, &waiting, &[]) {
                Ok(count) => {
                    let sent = count.min(waiting.len());
                    let rest = waiting.split_off(sent);
                    *waiting = rest;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Connection for Outbox {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.write_all(&[byte])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut waiting = self.0.borrow_mut();
        if waiting.len() + bytes.len() > MOST {
            return Err(io::Error::other("the answer is longer than any"));
        }
        waiting.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
