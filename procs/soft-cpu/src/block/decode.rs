//! From instruction bytes to a block.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, OpKind};

use super::arena::{Block, Slot};
use super::{Key, Link};
use crate::cpu::{Cpu, Mode};
use crate::debugger;
use crate::fault::{Exception, Raised};
use crate::flow;
use crate::memory::order::Order;
use crate::memory::ram::PAGE;
use crate::memory::walk::Access;
use crate::memory::{CodeMap, host};
use crate::op::{Op, Shape};
use crate::select::{Draft, Ending, FAMILIES, place_memory};
use crate::state::Reg;

/// Most instructions of a block: the depth of the stack where calls in tail position stay calls.
const MOST: usize = 64;

/// Most slots of a block: head, a look for a breakpoint, operations, and a link and a way on for the last.
pub(super) const MOST_SLOTS: usize = MOST + 5;

/// Bytes looked at for a block.
const WINDOW: usize = 192;

/// Longest instruction.
pub(crate) const LONGEST: usize = 15;

impl Cpu {
    /// The host address of a linear address to execute from.
    pub(super) fn fetch_page(&mut self, linear: u64) -> Result<*const u8, Raised> {
        match self.tlb.code(linear, self.mode.is_user()) {
            Some(host) => Ok(host as *const u8),
            None => self.fill_execute(linear),
        }
    }

    /// Decodes the block at a linear address whose first byte has this key.
    pub(super) fn decode(&mut self, key: Key, linear: u64) -> Result<*const Block, Raised> {
        let in_page = (PAGE - linear % PAGE) as usize;
        let count = in_page.min(WINDOW);
        let place = key.host as *const u8;
        self.claim(place);
        let alone = key.mode & Mode::ALONE != 0;
        let mut slots = Vec::with_capacity(16);
        loop {
            let mut bytes = [0; WINDOW + LONGEST];
            // SAFETY: `key.host` came from a TLB entry for this page; the bytes do not leave it.
            unsafe { host::copy_in(place, &mut bytes[..count]) };
            let decoded = self.decode_run(&bytes[..count], key.host, alone, &mut slots);
            let Some((instructions, length)) = decoded else {
                return self.decode_crossing(key, linear, &mut bytes, count, &mut slots);
            };
            let length_used = usize::from(length.max(1));
            self.mark(place, length_used);
            if self.is_still(place, &bytes[..length_used]) {
                slots[0] = Slot { head: Block::new(key, 0, instructions, length) };
                return Ok(self.register(key, &slots));
            }
        }
    }

    /// The page at `place` is code from now on: no vCPU writes to it past the slow path.
    fn claim(&mut self, place: *const u8) {
        let physical = self.physical_of(place);
        let Some(page) = self.ram.page_number(physical) else {
            return;
        };
        let is_first = self.ram.code().chunks(page) == 0 && {
            let code = self.ram.code();
            self.ram.devices().claim(physical, || code.add(page, CodeMap::mask(physical, 1)) == 0)
        };
        if is_first {
            let first = Self::page_of(physical);
            self.forbid_writes(first);
            self.order(Order::ForbidWrites(first), true);
        }
    }

    /// From now on writes to these bytes, of a claimed page, drop what was decoded from it.
    fn mark(&mut self, place: *const u8, count: usize) {
        let physical = self.physical_of(place);
        if let Some(page) = self.ram.page_number(physical) {
            self.ram.code().add(page, CodeMap::mask(physical, count));
        }
    }

    /// Whether nobody has written to the bytes before they were marked.
    fn is_still(&self, place: *const u8, bytes: &[u8]) -> bool {
        let mut now = [0; WINDOW + LONGEST];
        let now = &mut now[..bytes.len()];
        // SAFETY: `place` is where the bytes were read from.
        unsafe { host::copy_in(place, now) };
        now == bytes
    }

    /// The first instruction goes on in the next page.
    fn decode_crossing(
        &mut self,
        key: Key,
        linear: u64,
        bytes: &mut [u8],
        count: usize,
        slots: &mut Vec<Slot>,
    ) -> Result<*const Block, Raised> {
        let following = linear.wrapping_add(PAGE) & !(PAGE - 1);
        let following = if self.mode.is_long() { following } else { following & 0xffff_ffff };
        let second = self.fetch_page(following)?;
        self.claim(second);
        let place = key.host as *const u8;
        loop {
            let all = &mut bytes[..count + LONGEST];
            // SAFETY: `key.host` and `second` are of pages of guest RAM, up to whose end and from whose
            // beginning is read.
            unsafe { host::copy_in(place, &mut all[..count]) };
            // SAFETY: as above.
            unsafe { host::copy_in(second, &mut all[count..]) };
            let (_, length) = self.decode_run(all, key.host, true, slots).unwrap_or((1, 1));
            let behind = usize::from(length).saturating_sub(count).max(1);
            self.mark(place, count);
            self.mark(second, behind);
            if self.is_still(place, &all[..count]) && self.is_still(second, &all[count..][..behind])
            {
                slots[0] = Slot { head: Block::new(key, second as u64, 1, length) };
                let block = self.register(key, slots);
                self.list(block, second);
                return Ok(block);
            }
        }
    }

    fn register(&mut self, key: Key, slots: &[Slot]) -> *const Block {
        let block = self.blocks.arena.put(slots);
        self.blocks.all.insert(key, block);
        self.blocks.recent[key.slot()] = block;
        self.blocks.decoded += 1;
        self.list(block, key.host as *const u8);
        self.trace_block(block);
        block
    }

    /// A drop of the page drops the block.
    fn list(&mut self, block: *const Block, place: *const u8) {
        if let Some(page) = self.ram.page_number(self.physical_of(place)) {
            self.blocks.by_page.entry(page).or_default().push(block);
        }
    }

    fn physical_of(&self, host: *const u8) -> u64 {
        self.ram.physical(host).unwrap_or(u64::MAX)
    }

    /// Decodes instructions until one ends the block. `None`: not even one is complete.
    ///
    /// `host`: address of the first byte. Returns how many instructions, and their bytes.
    fn decode_run(
        &mut self,
        bytes: &[u8],
        host: u64,
        alone: bool,
        slots: &mut Vec<Slot>,
    ) -> Option<(u16, u16)> {
        let (mode, page_offset) = (self.mode, host % PAGE);
        slots.clear();
        slots.push(Slot { link: Link::EMPTY });
        let mut decoder = Decoder::with_ip(mode.bits(), bytes, 0, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut instructions = 0;
        let limit = if alone { 1 } else { MOST };
        // The instruction before, and its slot.
        let mut before: Option<(Instruction, usize)> = None;
        loop {
            let start = decoder.position();
            if instructions == limit || start >= bytes.len() {
                way_on(slots, mode, host, start as u16);
                return Some((instructions as u16, start as u16));
            }
            let may_break = self.debugger.has_breakpoints()
                && self.debugger.may_break(page_offset + start as u64);
            if may_break {
                if start != 0 {
                    way_on(slots, mode, host, start as u16);
                    return Some((instructions as u16, start as u16));
                }
                let op = Op { handler: debugger::look, ..empty_op(0, 0) };
                slots.push(Slot { op });
            }
            decoder.decode_out(&mut instruction);
            if decoder.last_error() == DecoderError::NoMoreBytes {
                if instructions == 0 {
                    return None;
                }
                way_on(slots, mode, host, start as u16);
                return Some((instructions as u16, start as u16));
            }
            instructions += 1;
            let slot = slots.len();
            let unknown = self.blocks.unknown;
            let ending = self.draft(&instruction, start as u16, host, slots);
            if self.blocks.unknown != unknown {
                self.note_unknown(start, &bytes[start..decoder.position()]);
            }
            if let Some((first, at)) = before
                && let Some(condition) = flow::fusable(&instruction, mode, page_offset)
                && let Some(pair) = crate::alu::fuse(&first, condition)
            {
                slots[at].op.handler = pair;
            }
            before = Some((instruction, slot));
            let end = decoder.position() as u16;
            if ending == Ending::Block {
                return Some((instructions as u16, end));
            }
        }
    }

    pub(crate) fn draft(
        &mut self,
        instruction: &Instruction,
        start: u16,
        host: u64,
        slots: &mut Vec<Slot>,
    ) -> Ending {
        let page_offset = host % PAGE;
        let op = empty_op(start, instruction.len() as u8);
        let mut draft =
            Draft { instruction, mode: self.mode, op, page_offset, ending: Ending::Open };
        let has_memory =
            (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory);
        if has_memory {
            place_memory(&mut draft.op, instruction, self.mode);
        }
        let handler = match unavailable(instruction, self.mode) {
            Some(handler) => Some(handler),
            None if instruction.is_invalid() => None,
            None => FAMILIES.iter().find_map(|select| select(&mut draft)),
        };
        match handler {
            Some(handler) => draft.op.handler = handler,
            None => {
                if !instruction.is_invalid() {
                    self.blocks.unknown += 1;
                }
                draft.ending = Ending::Block;
            }
        }
        slots.push(Slot { op: draft.op });
        match draft.ending {
            Ending::Open => Ending::Open,
            Ending::Block => Ending::Block,
            Ending::Linked => {
                slots.push(Slot { link: Link::from_host(host) });
                Ending::Block
            }
            Ending::Forked => {
                slots.push(Slot { link: Link::from_host(host) });
                let next = start + instruction.len() as u16;
                way_on(slots, self.mode, host, next);
                Ending::Block
            }
        }
    }

    /// Translates a page for execution and remembers it.
    #[cold]
    fn fill_execute(&mut self, linear: u64) -> Result<*const u8, Raised> {
        if self.mode.is_long() && !crate::memory::is_canonical(linear) {
            return Err(self.fault(Exception::gp(0)));
        }
        let user = self.cpl == 3;
        let access = Access { write: false, fetch: true, user, smap: false };
        let translation = match self.translate(linear, access) {
            Ok(translation) => translation,
            Err(fault) => return Err(self.fault(fault)),
        };
        self.install_execute(linear, translation)
    }
}

/// An operation that does nothing but #UD so far.
pub(crate) fn empty_op(start: u16, len: u8) -> Op {
    Op {
        handler: flow::undefined,
        imm: 0,
        displacement: 0,
        base: Reg::ZERO,
        index: Reg::ZERO,
        shape: Shape::NONE,
        dst: Reg::ZERO,
        src: Reg::ZERO,
        len,
        start,
    }
}

/// Ends a block that goes on with the instruction at `start`.
fn way_on(slots: &mut Vec<Slot>, mode: Mode, host: u64, start: u16) {
    let mut op = empty_op(start, 0);
    op.imm = start.into();
    op.displacement = 0xffff_ffff;
    op.handler = flow::jump_handler(mode, host % PAGE, op.imm);
    slots.push(Slot { op });
    slots.push(Slot { link: Link::from_host(host) });
}

/// What to execute instead where the state of x87, MMX or SSE does not permit the instruction.
pub(crate) fn unavailable(instruction: &Instruction, mode: Mode) -> Option<crate::op::Handler> {
    let class = flow::Coprocessor::of(instruction)?;
    match class {
        flow::Coprocessor::X87 if mode.is_emulated() || mode.is_task_switched() => {
            Some(flow::not_available)
        }
        flow::Coprocessor::Wait if mode.is_monitored() && mode.is_task_switched() => {
            Some(flow::not_available)
        }
        flow::Coprocessor::Mmx | flow::Coprocessor::Sse if mode.is_emulated() => {
            Some(flow::undefined)
        }
        flow::Coprocessor::Sse if !mode.has_sse() => Some(flow::undefined),
        flow::Coprocessor::Mmx | flow::Coprocessor::Sse if mode.is_task_switched() => {
            Some(flow::not_available)
        }
        _ => None,
    }
}
