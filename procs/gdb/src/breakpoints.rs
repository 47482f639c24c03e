//! What the client has set, as it set it, so that it is told in its own words what was met.
//!
//! Both kinds of breakpoint are one to core. A watch of any length is as many as a processor would need:
//! pieces of 8, 4, 2 or 1 bytes at multiples of their length.

use std::collections::BTreeSet;

use bulkhead_protocol::gdb::{Breakpoint, DebugRequest};
use gdbstub::common::Tid;
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::breakpoints::WatchKind;

use crate::fault::Fault;
use crate::link::Link;

/// Longest watch.
const LONGEST: u64 = 256;

/// What the client calls a breakpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `break`.
    Software,
    /// `hbreak`.
    Hardware,
}

/// A watch: address, length, whether it is for reads, for writes.
type Watch = (u64, u64, bool, bool);

/// All of them.
#[derive(Debug, Default)]
pub struct Breakpoints {
    code: BTreeSet<(u64, Kind)>,
    data: BTreeSet<Watch>,
}

fn is_set_at(code: &BTreeSet<(u64, Kind)>, address: u64) -> bool {
    code.range((address, Kind::Software)..=(address, Kind::Hardware)).next().is_some()
}

/// Pieces that a processor can watch.
fn pieces(address: u64, len: u64) -> Vec<(u64, u8)> {
    let mut pieces = Vec::new();
    let (mut at, end) = (address, address.saturating_add(len));
    while at < end {
        let fits = |size: &u8| at.is_multiple_of((*size).into()) && u64::from(*size) <= end - at;
        let size = [8u8, 4, 2, 1].into_iter().find(fits).unwrap_or(1);
        pieces.push((at, size));
        at += u64::from(size);
    }
    pieces
}

impl Breakpoints {
    /// Sets a breakpoint; `false`, with a line on the log: core refuses.
    pub fn add(&mut self, link: &mut Link, address: u64, kind: Kind) -> Result<bool, Fault> {
        if !is_set_at(&self.code, address)
            && !agreed(link.order(&DebugRequest::Break(Breakpoint::Code(address))))?
        {
            return Ok(false);
        }
        self.code.insert((address, kind));
        Ok(true)
    }

    /// Takes it away.
    pub fn remove(&mut self, link: &mut Link, address: u64, kind: Kind) -> Result<bool, Fault> {
        if !self.code.remove(&(address, kind)) {
            return Ok(false);
        }
        if !is_set_at(&self.code, address) {
            link.order(&DebugRequest::Unbreak(Breakpoint::Code(address)))?;
        }
        Ok(true)
    }

    /// Sets a watch; all of it or nothing.
    pub fn watch(
        &mut self,
        link: &mut Link,
        address: u64,
        len: u64,
        kind: WatchKind,
    ) -> Result<bool, Fault> {
        if len == 0 || len > LONGEST || address.checked_add(len).is_none() {
            return Ok(false);
        }
        let watch = as_watch(address, len, kind);
        if self.data.contains(&watch) {
            return Ok(true);
        }
        for (at, size) in pieces(address, len) {
            if !agreed(link.order(&DebugRequest::Break(piece(at, size, watch))))? {
                self.drop_watch(link, watch)?;
                return Ok(false);
            }
        }
        self.data.insert(watch);
        Ok(true)
    }

    /// Takes it away.
    pub fn unwatch(
        &mut self,
        link: &mut Link,
        address: u64,
        len: u64,
        kind: WatchKind,
    ) -> Result<bool, Fault> {
        let watch = as_watch(address, len, kind);
        let was_there = self.data.remove(&watch);
        if was_there {
            self.drop_watch(link, watch)?;
        }
        Ok(was_there)
    }

    /// Takes away the pieces that no other watch has.
    fn drop_watch(&self, link: &mut Link, watch: Watch) -> Result<(), Fault> {
        let reads = watch.2;
        let others = self.data.iter().filter(|other| other.2 == reads && **other != watch);
        let kept: BTreeSet<_> = others.flat_map(|other| pieces(other.0, other.1)).collect();
        for (at, size) in pieces(watch.0, watch.1) {
            if !kept.contains(&(at, size)) {
                link.order(&DebugRequest::Unbreak(piece(at, size, watch)))?;
            }
        }
        Ok(())
    }

    /// What a client is told of a vCPU that has met the breakpoint at `address`.
    pub fn reason(&self, tid: Tid, address: u64) -> MultiThreadStopReason<u64> {
        match self.code.contains(&(address, Kind::Software)) {
            true => MultiThreadStopReason::SwBreak(tid),
            false => MultiThreadStopReason::HwBreak(tid),
        }
    }

    /// What a client is told of a vCPU that has touched the piece at `address`.
    pub fn watch_reason(&self, tid: Tid, address: u64) -> MultiThreadStopReason<u64> {
        let covers = |watch: &&Watch| (watch.0..watch.0 + watch.1).contains(&address);
        let kind = match self.data.iter().find(covers) {
            Some((_, _, true, true)) => WatchKind::ReadWrite,
            Some((_, _, true, false)) => WatchKind::Read,
            _ => WatchKind::Write,
        };
        MultiThreadStopReason::Watch { tid, kind, addr: address }
    }
}

/// No processor watches reads alone: for a client that wants them, writes are watched too.
fn as_watch(address: u64, len: u64, kind: WatchKind) -> Watch {
    match kind {
        WatchKind::Write => (address, len, false, true),
        WatchKind::Read => (address, len, true, false),
        WatchKind::ReadWrite => (address, len, true, true),
    }
}

fn piece(address: u64, len: u8, watch: Watch) -> Breakpoint {
    Breakpoint::Data { address, len, reads: watch.2 }
}

/// A refusal is told on the log: the protocol has no words for it.
fn agreed(outcome: Result<(), Fault>) -> Result<bool, Fault> {
    match outcome {
        Ok(()) => Ok(true),
        Err(fault) if fault.is_the_clients() => {
            bulkhead_runtime::log(&format!("gdb: {fault}"));
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}
