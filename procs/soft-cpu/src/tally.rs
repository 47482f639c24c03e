//! What a vCPU has counted, for whoever asks.
//!
//! The vCPU counts in numbers of its own, and copies them here between blocks; others read at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bulkhead_protocol::crash::Word;
use bulkhead_protocol::soft_cpu::{Counters, LONGEST_INSTRUCTION, Unknown};

use crate::cpu::Cpu;

/// One vCPU's.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    instructions: AtomicU64,
    blocks: AtomicU64,
    tlb_fills: AtomicU64,
    flushes: AtomicU64,
    slow_calls: AtomicU64,
    interrupts: AtomicU64,
    exceptions: AtomicU64,
    unknown: AtomicU64,
    last_unknown: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Tally {
    /// The counters as they were copied last.
    pub(crate) fn counters(&self) -> Counters {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            instructions: now(&self.instructions),
            blocks: now(&self.blocks),
            tlb_fills: now(&self.tlb_fills),
            flushes: now(&self.flushes),
            slow_calls: now(&self.slow_calls),
            interrupts: now(&self.interrupts),
            exceptions: now(&self.exceptions),
            unknown: now(&self.unknown),
        }
    }

    /// The last instruction that this engine lacks.
    pub(crate) fn last_unknown(&self) -> Option<Unknown> {
        let last = self.last_unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.unknown.load(Ordering::Relaxed);
        last.clone().map(|(rip, bytes)| Unknown { seen, rip: Word(rip), bytes })
    }
}

impl Cpu {
    /// Copies what was counted.
    pub(crate) fn publish(&self) {
        let tally = &*self.tally;
        let counters = [
            (&tally.instructions, self.executed),
            (&tally.blocks, self.blocks.decoded),
            (&tally.tlb_fills, self.tlb.fills),
            (&tally.flushes, self.tlb.flushes),
            (&tally.slow_calls, self.slow_calls),
            (&tally.interrupts, self.interrupts),
            (&tally.exceptions, self.exceptions),
            (&tally.unknown, self.blocks.unknown),
        ];
        counters.iter().for_each(|(counter, now)| counter.store(*now, Ordering::Relaxed));
    }

    /// Remembers an instruction that no family takes: `start` bytes behind RIP, which is at its block.
    #[cold]
    pub(crate) fn note_unknown(&mut self, start: usize, bytes: &[u8]) {
        let rip = self.rip().wrapping_add(start as u64);
        let bytes = bytes.iter().copied().take(LONGEST_INSTRUCTION).collect();
        let mut last = self.tally.last_unknown.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((rip, bytes));
    }
}
