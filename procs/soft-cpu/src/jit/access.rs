//! The memory operand of a compiled instruction: the TLB's check in a dozen instructions, and the host
//! address that it yields.
//!
//! ```text
//!  entry = bank + (linear >> 12) % 4096 * 32
//!  tag == page of the last byte?   no ─► the interpreter executes the instruction
//!  host address = linear + addend
//! ```
//!
//! The check is that of [`crate::memory::access`]: the entry is that of the first byte, the tag is compared
//! with the page of the last one, so that what crosses a page never passes. What has to be aligned is compared
//! with its low bits and all, instead. It changes the host's flags.

use iced_x86::{Instruction, Register};

use super::emit::{A, B, Emitter, Hole, Host, Opcode, Place, Rm, condition, signed};
use super::layout::{self, Home, slot};
use crate::memory::ram::PAGE;
use crate::memory::tlb::{ENTRIES, Entry, NEVER};
use crate::state::Reg;

/// Where a memory operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    base: Option<Home>,
    index: Option<(Home, u8)>,
    displacement: i32,
    segment: Option<Reg>,
    /// All there is to the address but the segment, if no register is part of it.
    constant: Option<u64>,
}

/// What an access wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) size: u32,
    pub(super) write: bool,
    /// Atomic: it must not cross a cache line, or the other vCPUs have to stop.
    pub(super) locked: bool,
    /// It has to lie at a multiple of 16, as its size is.
    pub(super) aligned: bool,
}

impl Access {
    /// A plain one.
    pub(super) fn of(size: u32, write: bool) -> Self {
        Self { size, write, locked: false, aligned: false }
    }
}

/// An access that has passed: where the host may go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    pub(super) place: Place,
    /// A scratch register that the place does not need.
    pub(super) free: Host,
    /// Taken if it has not passed.
    pub(super) miss: Hole,
}

impl Address {
    /// The memory operand of an instruction of the block at `rip`, decoded relative to it. `None`: it is of
    /// no kind that compiled code knows.
    pub(super) fn of(instruction: &Instruction, rip: u64) -> Option<Self> {
        let home = |register: Register| match register {
            Register::None => Some(None),
            _ if register.is_gpr64() => Some(Some(layout::home(register.number() as u8))),
            _ => None,
        };
        let displacement = instruction.memory_displacement64();
        let segment = match instruction.memory_segment() {
            Register::FS => Some(Reg::base_of(4)),
            Register::GS => Some(Reg::base_of(5)),
            _ => None,
        };
        if instruction.memory_base() == Register::RIP {
            let constant = Some(rip.wrapping_add(displacement));
            return Some(Self { constant, segment, ..Self::at(0, 0) });
        }
        let displacement = signed(displacement)?;
        let index = home(instruction.memory_index())?;
        let shift = instruction.memory_index_scale().trailing_zeros() as u8;
        let base = home(instruction.memory_base())?;
        let is_constant = base.is_none() && index.is_none() && segment.is_none();
        let constant = is_constant.then_some(i64::from(displacement) as u64);
        Some(Self { base, index: index.map(|home| (home, shift)), displacement, segment, constant })
    }

    /// The register and the distance from it, if that is all.
    pub(super) fn simple(&self) -> Option<(Host, i32)> {
        match (self.base, self.index, self.segment, self.constant) {
            (Some(Home::Host(base)), None, None, None) => Some((base, self.displacement)),
            _ => None,
        }
    }

    /// Relative to a guest register.
    pub(super) fn at(number: u8, displacement: i32) -> Self {
        let base = Some(layout::home(number));
        Self { base, index: None, displacement, segment: None, constant: None }
    }

    /// Relative to the guest register in a host register.
    pub(super) fn on(register: Host, displacement: i32) -> Self {
        Self { base: Some(Home::Host(register)), displacement, ..Self::at(0, 0) }
    }

    /// As `lea` sees it.
    pub(super) fn without_segment(self) -> Self {
        let is_constant = self.base.is_none() && self.index.is_none();
        let constant = is_constant.then_some(i64::from(self.displacement) as u64);
        Self { segment: None, constant: self.constant.or(constant), ..self }
    }

    /// Puts the address into `to`; `other` may be used meanwhile. Without it, flags may be lost.
    pub(super) fn compute(&self, code: &mut Emitter, to: Host, other: Option<Host>) {
        if let Some(constant) = self.constant {
            code.constant(to, constant);
            if let Some(segment) = self.segment {
                add(code, to, layout::file(segment));
            }
            return;
        }
        let mut place = Place { base: None, index: None, displacement: self.displacement };
        let mut rest = None;
        if let Some((home, shift)) = self.index {
            let host = match home {
                Home::Host(host) => host,
                Home::File(reg) => {
                    code.load(to, layout::file(reg));
                    to
                }
            };
            place.index = Some((host, shift));
        }
        match (self.base, place.index) {
            (Some(Home::Host(host)), _) => place.base = Some(host),
            (Some(Home::File(reg)), Some((index, _))) if index == to => match other {
                Some(other) => {
                    code.load(other, layout::file(reg));
                    place.base = Some(other);
                }
                None => rest = Some(reg),
            },
            (Some(Home::File(reg)), _) => {
                code.load(to, layout::file(reg));
                place.base = Some(to);
            }
            (None, _) => {}
        }
        if place.base.is_none() && place.index.is_none() {
            // Only a segment's base and the displacement.
            if let Some(segment) = self.segment {
                code.load(to, layout::file(segment));
                if self.displacement != 0 {
                    code.lea(to, Place::at(to, self.displacement));
                }
            }
            return;
        }
        code.lea(to, place);
        for reg in [rest, self.segment].into_iter().flatten() {
            add(code, to, layout::file(reg));
        }
    }

    /// Emits the check. `None`: it would never pass.
    pub(super) fn check(&self, code: &mut Emitter, access: Access) -> Option<Passed> {
        let last = i32::try_from(access.size.checked_sub(1)?).ok()?;
        // What is aligned lies in the page of its first byte.
        let last = if access.aligned { 0 } else { last };
        let tag = if access.write {
            std::mem::offset_of!(Entry, write)
        } else {
            std::mem::offset_of!(Entry, read)
        };
        if let (Some(constant), None) = (self.constant, self.segment) {
            if access.aligned && constant & ALIGNMENT != 0 {
                return None;
            }
            return check_constant(code, constant, access.size, tag as i32);
        }
        let simple = self.simple();
        let simple = simple.and_then(|(base, at)| Some((base, at.checked_add(last)?)));
        match simple {
            Some((base, end)) => {
                code.lea(A, Place::at(base, end));
                match (last, self.displacement) {
                    (0, _) => code.mov(B, A),
                    (_, 0) => code.mov(B, base),
                    _ => code.lea(B, Place::at(base, self.displacement)),
                }
            }
            None => {
                self.compute(code, A, Some(B));
                code.mov(B, A);
                if last != 0 {
                    code.lea(A, Place::at(A, last));
                }
            }
        }
        // shr r11, 7
        code.encode(Opcode::wide(&[0xc1]), 5, Rm::Register(B), &[ENTRY_SHIFT]);
        code.arithmetic(4, B, ENTRY_MASK, false);
        add(code, B, layout::file(slot::TLB));
        let low = if access.aligned { ALIGNMENT as i32 } else { 0 };
        code.arithmetic(4, A, -(PAGE as i32) | low, true);
        compare(code, A, Place::at(B, tag as i32));
        let miss = code.branch_ahead(condition::NOT_EQUAL);
        let (place, free) = self.translate(code);
        Some(Passed { place, free, miss })
    }

    /// The host address, [`B`] pointing to the entry.
    fn translate(&self, code: &mut Emitter) -> (Place, Host) {
        let addend = Place::at(B, ADDEND);
        let Self { displacement, .. } = *self;
        match (self.base, self.index, self.segment) {
            (Some(Home::Host(base)), None, None) => {
                code.load(B, addend);
                (Place { base: Some(B), index: Some((base, 0)), displacement }, A)
            }
            (Some(Home::Host(base)), Some((Home::Host(index), shift)), None) => {
                code.load(B, addend);
                code.lea(B, Place { base: Some(B), index: Some((base, 0)), displacement: 0 });
                (Place { base: Some(B), index: Some((index, shift)), displacement }, A)
            }
            _ => {
                self.compute(code, A, None);
                add(code, A, addend);
                (Place::at(A, 0), B)
            }
        }
    }
}

const ADDEND: i32 = std::mem::offset_of!(Entry, addend) as i32;
/// From a linear address to its entry's distance in the bank.
const ENTRY_SHIFT: u8 = (PAGE.trailing_zeros() - size_of::<Entry>().trailing_zeros()) as u8;
/// The low bits of an address that an aligned access must not have.
const ALIGNMENT: u64 = 15;
const _: () = assert!((NEVER % PAGE) & !ALIGNMENT != 0);
const ENTRY_MASK: i32 = ((ENTRIES - 1) * size_of::<Entry>()) as i32;

fn check_constant(code: &mut Emitter, linear: u64, size: u32, tag: i32) -> Option<Passed> {
    let page = linear & !(PAGE - 1);
    if linear - page + u64::from(size) > PAGE {
        return None;
    }
    let entry = (linear >> ENTRY_SHIFT) as i32 & ENTRY_MASK;
    code.load(B, layout::file(slot::TLB));
    let tag = Place::at(B, entry + tag);
    match signed(page) {
        Some(small) => {
            code.encode(Opcode::wide(&[0x81]), 7, Rm::Memory(tag), &small.to_le_bytes());
        }
        None => {
            code.constant(A, page);
            compare(code, A, tag);
        }
    }
    let miss = code.branch_ahead(condition::NOT_EQUAL);
    code.load(B, Place::at(B, entry + ADDEND));
    let place = match signed(linear) {
        Some(small) => Place::at(B, small),
        None => {
            code.constant(A, linear);
            code.lea(B, Place { base: Some(B), index: Some((A, 0)), displacement: 0 });
            Place::at(B, 0)
        }
    };
    Some(Passed { place, free: A, miss })
}

pub(super) fn add(code: &mut Emitter, to: Host, from: Place) {
    code.encode(Opcode::wide(&[0x03]), to, Rm::Memory(from), &[]);
}

pub(super) fn compare(code: &mut Emitter, register: Host, with: Place) {
    code.encode(Opcode::wide(&[0x3b]), register, Rm::Memory(with), &[]);
}
