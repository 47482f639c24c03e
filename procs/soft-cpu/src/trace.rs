//! What a vCPU executes, as lines of text for this engine's developers.
//!
//! ```text
//! 0 block rip=ffffffff81000000 mode=64 bytes=25 instructions=7
//! 0 exception vector=14 code=2 rip=ffffffff81000123 cr2=7f0000001000
//! 0 dropped 311 lines
//! ```
//!
//! A block is told of when it is decoded, not each time it runs. Lines are collected and go to a
//! datagram socket, piece by piece.
//!
//! Law: a vCPU never waits for the reader. What the socket does not take, and what is more than
//! [`MOST`] lines a second, is dropped and counted, and the next piece begins with how much that was.

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_sys::seqpacket;

use crate::block::Block;
use crate::cpu::Cpu;
use crate::fault::{Exception, vector};

/// Text after which a piece is sent.
const PIECE: usize = 4096;

/// Lines of one vCPU in one second.
const MOST: u32 = 200_000;

const SECOND: Duration = Duration::from_secs(1);

/// How long a line may wait for others.
const PATIENCE: Duration = Duration::from_millis(100);

/// One vCPU's.
#[derive(Debug)]
pub(crate) struct Trace {
    socket: Arc<OwnedFd>,
    vcpu: u8,
    text: String,
    lines: u64,
    dropped: u64,
    /// When this second began, and how many more lines there may be in it.
    second: Instant,
    left: u32,
    sent: Instant,
}

impl Trace {
    /// Of this vCPU, to a socket of datagrams.
    pub(crate) fn new(socket: Arc<OwnedFd>, vcpu: u8) -> Self {
        let now = Instant::now();
        let text = String::with_capacity(2 * PIECE);
        Self { socket, vcpu, text, lines: 0, dropped: 0, second: now, left: MOST, sent: now }
    }

    fn line(&mut self, what: std::fmt::Arguments<'_>) {
        if self.left == 0 {
            self.dropped += 1;
            return;
        }
        self.left -= 1;
        self.lines += 1;
        // A `String` takes everything.
        let _ = writeln!(self.text, "{} {what}", self.vcpu);
        if self.text.len() >= PIECE {
            self.send(Instant::now());
        }
    }

    fn send(&mut self, now: Instant) {
        self.sent = now;
        if self.text.is_empty() && self.dropped == 0 {
            return;
        }
        let mut piece = String::new();
        if self.dropped > 0 {
            let _ = writeln!(piece, "{} dropped {} lines", self.vcpu, self.dropped);
        }
        piece.push_str(&self.text);
        match seqpacket::send(self.socket.as_fd(), piece.as_bytes(), &[]) {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += self.lines,
        }
        self.text.clear();
        self.lines = 0;
    }

    /// Time passes.
    fn tick(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.second) >= SECOND {
            (self.second, self.left) = (now, MOST);
        }
        if now.saturating_duration_since(self.sent) >= PATIENCE {
            self.send(now);
        }
    }
}

impl Cpu {
    /// A block was decoded.
    pub(crate) fn trace_block(&mut self, block: *const Block) {
        let (rip, mode) = (self.rip(), self.mode.bits());
        let Some(trace) = &mut self.trace else { return };
        // SAFETY: it was registered a moment ago, and nothing is freed before the next look-up.
        let &Block { bytes, count, .. } = unsafe { &*block };
        trace
            .line(format_args!("block rip={rip:x} mode={mode} bytes={bytes} instructions={count}"));
    }

    /// An exception was raised.
    pub(crate) fn trace_exception(&mut self, Exception { vector, code, address }: Exception) {
        let rip = self.rip();
        let Some(trace) = &mut self.trace else { return };
        let code = code.map(|code| format!(" code={code:x}")).unwrap_or_default();
        match vector {
            vector::PF => {
                trace.line(format_args!(
                    "exception vector={vector}{code} rip={rip:x} cr2={address:x}"
                ));
            }
            _ => trace.line(format_args!("exception vector={vector}{code} rip={rip:x}")),
        }
    }

    /// Time passes, or nothing is executed for a while (`rest`): what is collected goes.
    pub(crate) fn send_trace(&mut self, rest: bool) {
        match &mut self.trace {
            Some(trace) if rest => trace.send(Instant::now()),
            Some(trace) => trace.tick(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Trace, OwnedFd) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        (Trace::new(Arc::new(ours), 3), theirs)
    }

    /// What lies in the socket.
    fn read(socket: &OwnedFd) -> String {
        let (mut text, mut piece) = (String::new(), [0; 4 * PIECE]);
        while let Ok(got) = seqpacket::receive(socket.as_fd(), &mut piece) {
            if got.len == 0 {
                break;
            }
            text.push_str(std::str::from_utf8(&piece[..got.len]).unwrap());
        }
        text
    }

    #[test]
    fn lines_come_out_in_order_with_their_vcpu() {
        let (mut trace, socket) = pair();
        for number in 0..1000 {
            trace.line(format_args!("line {number}"));
        }
        trace.send(Instant::now());
        let expected: String = (0..1000).map(|number| format!("3 line {number}\n")).collect();
        assert_eq!(read(&socket), expected);
    }

    #[test]
    fn what_a_reader_does_not_take_is_dropped_and_counted() {
        let (mut trace, socket) = pair();
        let all = u64::from(MOST / 2);
        (0..all).for_each(|number| trace.line(format_args!("line {number}")));
        trace.send(Instant::now());
        let before = read(&socket).lines().count() as u64;
        assert!(before < all);
        trace.line(format_args!("one more"));
        trace.send(Instant::now());
        let text = read(&socket);
        assert_eq!(text, format!("3 dropped {} lines\n3 one more\n", all - before));
    }

    #[test]
    fn more_than_a_second_may_have_is_dropped_and_counted() {
        let (mut trace, socket) = pair();
        trace.left = 2;
        (0..5).for_each(|number| trace.line(format_args!("line {number}")));
        trace.send(Instant::now());
        assert_eq!(read(&socket), "3 dropped 3 lines\n3 line 0\n3 line 1\n");
    }

    #[test]
    fn a_reader_that_is_gone_stops_nothing() {
        let (mut trace, socket) = pair();
        drop(socket);
        trace.line(format_args!("line"));
        trace.send(Instant::now());
        assert_eq!(trace.dropped, 1);
    }
}
