//! A block of the interpreter, found worth it, becomes compiled code.
//!
//! Its bytes are decoded anew: they are marked as code since the interpreter decoded them, so that whoever
//! changes them drops the block, and what is compiled from them meanwhile with it.

use std::sync::atomic::Ordering;

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::compile::{Compiler, Source};
use super::plan::{self, Kind, Planned};
use super::system::System;
use super::{Jit, Piece, exit, step};
use crate::block::{Block, Slot, empty_op, unavailable};
use crate::cpu::Cpu;
use crate::memory::host;
use crate::memory::ram::PAGE;
use crate::op::Op;
use crate::select::Ending;

/// Most bytes of a block.
const LONGEST: usize = 256;

impl Cpu {
    /// Compiles a block for the address in RIP; its number. `None`: it is not worth it, or does not fit.
    pub(super) fn compile(&mut self, jit: &mut Jit, block: *const Block) -> Option<u32> {
        // SAFETY: the caller's block is live, and nothing is freed meanwhile.
        let head = unsafe { *block };
        let mut bytes = [0; LONGEST];
        let bytes = bytes.get_mut(..usize::from(head.bytes))?;
        let in_first = bytes.len().min((PAGE - head.host % PAGE) as usize);
        let (first, rest) = bytes.split_at_mut(in_first);
        // SAFETY: the block was decoded from these bytes, which lie within one page of guest RAM.
        unsafe { host::copy_in(head.host as *const u8, first) };
        if !rest.is_empty() {
            // SAFETY: its only instruction goes on at the beginning of this page of guest RAM.
            unsafe { host::copy_in(head.second as *const u8, rest) };
        }
        let rip = self.rip();
        let (mut planned, ops) = self.plan(jit, bytes, head.host)?;
        if planned.len() != usize::from(head.count) {
            return None;
        }
        let last = planned.last()?;
        let end = last.start + last.instruction.len() as u16;
        let source = Source { rip, page: head.page(), count: planned.len() as u16, end };
        let has_vectors = planned.iter().any(Planned::is_vector);
        jit.emitter.begin(jit.code.next());
        jit.cold.begin(jit.code.next_cold());
        let compiler = Compiler::new(&mut jit.emitter, &mut jit.cold, jit.glue, source);
        let (entries, exits) = compiler.block(&mut planned, &ops);
        for exit in &exits {
            let number = jit.sites.len() as u32;
            let cold = &mut jit.cold;
            let straight = (!exit.is_careful).then_some(&mut jit.emitter);
            let cells = &mut jit.code.cells;
            jit.sites.push(exit::emit(straight, cold, jit.glue, exit, source, number, cells)?);
        }
        if !jit.code.add(&jit.emitter.bytes, &jit.cold.bytes) {
            return None;
        }
        jit.compiled.fetch_add(1, Ordering::Relaxed);
        let (entry, gone) = (entries.entry, entries.gone);
        jit.pieces.push(Piece { rip, entry, gone, older: head.native, has_vectors });
        Some(jit.pieces.len() as u32)
    }

    /// Decodes the block and decides on each instruction; beside it, the interpreter's operation.
    fn plan<'a>(
        &mut self,
        jit: &mut Jit,
        bytes: &'a [u8],
        host: u64,
    ) -> Option<(Vec<Planned<'a>>, Vec<Option<*const Op>>)> {
        let rip = self.rip();
        let mut decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
        let (mut planned, mut ops) = (Vec::with_capacity(16), Vec::with_capacity(16));
        let mut slots = Vec::with_capacity(8);
        while decoder.can_decode() {
            let start = decoder.position();
            let instruction: Instruction = decoder.decode();
            let itself = bytes.get(start..decoder.position())?;
            let start = start as u16;
            slots.clear();
            slots.push(Slot::EMPTY);
            let is_available = unavailable(&instruction, self.mode).is_none();
            let is_last = !decoder.can_decode();
            let system = System::of(&instruction, self, is_last).map(Kind::System);
            let simple = system.or_else(|| plan::simple(&instruction, itself, rip));
            let simple = simple.filter(|_| is_available);
            let may_step = simple.is_none_or(|kind| kind.may_step());
            let ending = may_step.then(|| self.draft(&instruction, start, host, &mut slots));
            let kind = simple.unwrap_or(match ending {
                Some(Ending::Open) => Kind::Stepped,
                _ => Kind::Ended,
            });
            let op = ending.map(|ending| {
                if ending == Ending::Open {
                    slots.push(Slot { op: behind(start, !is_last) });
                }
                step::place(&mut jit.ops, &mut slots, rip)
            });
            let one = Planned { instruction, start, kind, sure: false, flags_live: true };
            planned.push(one);
            ops.push(op);
            if kind.ends() {
                break;
            }
        }
        Some((planned, ops))
    }
}

/// What stands behind a lone operation; in its block, another instruction may.
fn behind(start: u16, is_instruction: bool) -> Op {
    Op { handler: step::went_on, ..empty_op(start, is_instruction.into()) }
}
