//! Host instructions as bytes: the few forms that compiled code is made of.
//!
//! Addresses inside the code memory are offsets from its beginning. A jump forward is emitted with an
//! empty distance and filled in by [`Emitter::bind`] once its target's place is known.
//!
//! Absent on purpose: everything that is not needed. A guest instruction is copied by `copy`, which only
//! asks for [`Emitter::encode`].

/// A host register, by its number.
pub(super) type Host = u8;

pub(super) const RAX: Host = 0;
pub(super) const RDX: Host = 2;
pub(super) const RBP: Host = 5;
pub(super) const RSI: Host = 6;
pub(super) const RDI: Host = 7;
/// Points to the register file while compiled code runs; no stack is there.
pub(super) const STATE: Host = 4;
/// Holds the guest's stack pointer.
pub(super) const STACK: Host = 9;
/// Free between two guest instructions.
pub(super) const A: Host = 10;
/// As [`A`].
pub(super) const B: Host = 11;

/// A memory operand: base, index and its shift, displacement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) base: Option<Host>,
    pub(super) index: Option<(Host, u8)>,
    pub(super) displacement: i32,
}

impl Place {
    pub(super) fn at(base: Host, displacement: i32) -> Self {
        Self { base: Some(base), index: None, displacement }
    }
}

/// What the `rm` half of a ModRM byte names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rm {
    Register(Host),
    Memory(Place),
    /// A place in the code memory.
    Code(u32),
}

/// The part of an instruction before its operands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opcode<'a> {
    /// Legacy prefixes.
    pub(super) prefixes: &'a [u8],
    /// REX.W.
    pub(super) wide: bool,
    /// A REX prefix even where no bit of it is set: the low bytes of rsi, rdi.
    pub(super) rex: bool,
    pub(super) bytes: &'a [u8],
}

impl<'a> Opcode<'a> {
    pub(super) const fn narrow(bytes: &'a [u8]) -> Self {
        Self { prefixes: &[], wide: false, rex: false, bytes }
    }

    pub(super) const fn wide(bytes: &'a [u8]) -> Self {
        Self { prefixes: &[], wide: true, rex: false, bytes }
    }
}

/// Conditions in the processor's numbering, as far as the compiler itself asks for them.
pub(super) mod condition {
    pub(in crate::jit) const ABOVE_OR_EQUAL: u8 = 3;
    pub(in crate::jit) const EQUAL: u8 = 4;
    pub(in crate::jit) const NOT_EQUAL: u8 = 5;
    pub(in crate::jit) const BELOW_OR_EQUAL: u8 = 6;
    pub(in crate::jit) const ABOVE: u8 = 7;
    pub(in crate::jit) const SIGN: u8 = 8;
}

/// A jump whose distance is not known yet: where its four bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Hole(usize);

/// Code under construction.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    pub(super) bytes: Vec<u8>,
    /// Where it will lie in the code memory.
    start: u32,
}

impl Emitter {
    /// Begins anew, at this place of the code memory.
    pub(super) fn begin(&mut self, start: u32) {
        self.bytes.clear();
        self.start = start;
    }

    /// The place that the next byte goes to.
    pub(super) fn here(&self) -> u32 {
        self.start + self.bytes.len() as u32
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn word(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    /// An instruction with a ModRM byte; `behind` is what follows the operands.
    pub(super) fn encode(&mut self, opcode: Opcode<'_>, reg: u8, rm: Rm, behind: &[u8]) {
        let (base, index) = match rm {
            Rm::Register(register) => (register, 0),
            Rm::Memory(place) => {
                (place.base.unwrap_or(0), place.index.map_or(0, |(index, _)| index))
            }
            Rm::Code(_) => (0, 0),
        };
        self.raw(opcode.prefixes);
        let rex = u8::from(opcode.wide) << 3 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3;
        if rex != 0 || opcode.rex {
            self.bytes.push(0x40 | rex);
        }
        self.raw(opcode.bytes);
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Register(register) => self.bytes.push(0xc0 | reg | register & 7),
            Rm::Memory(place) => self.place(reg, place),
            Rm::Code(target) => {
                self.bytes.push(reg | 5);
                let end = self.here() + 4 + behind.len() as u32;
                self.word(target.wrapping_sub(end) as i32);
            }
        }
        self.raw(behind);
    }

    fn place(&mut self, reg: u8, place: Place) {
        // 4 in the place of the index stands for none.
        let (index, shift) = place.index.unwrap_or((4, 0));
        let displacement = place.displacement.to_le_bytes();
        let Some(base) = place.base else {
            self.raw(&[reg | 4, shift << 6 | (index & 7) << 3 | 5]);
            return self.raw(&displacement);
        };
        let (kind, bytes) = match place.displacement {
            // rbp and r13 as a base cannot do without a displacement.
            0 if base & 7 != 5 => (0, 0),
            -128..=127 => (0x40, 1),
            _ => (0x80, 4),
        };
        if place.index.is_none() && base & 7 != 4 {
            self.bytes.push(kind | reg | base & 7);
        } else {
            self.raw(&[kind | reg | 4, shift << 6 | (index & 7) << 3 | base & 7]);
        }
        self.raw(&displacement[..bytes]);
    }

    pub(super) fn mov(&mut self, to: Host, from: Host) {
        self.encode(Opcode::wide(&[0x89]), from, Rm::Register(to), &[]);
    }

    pub(super) fn load(&mut self, to: Host, from: Place) {
        self.encode(Opcode::wide(&[0x8b]), to, Rm::Memory(from), &[]);
    }

    pub(super) fn store(&mut self, to: Place, from: Host) {
        self.encode(Opcode::wide(&[0x89]), from, Rm::Memory(to), &[]);
    }

    pub(super) fn lea(&mut self, to: Host, of: Place) {
        self.encode(Opcode::wide(&[0x8d]), to, Rm::Memory(of), &[]);
    }

    /// A constant into a register; leaves the flags alone.
    pub(super) fn constant(&mut self, to: Host, value: u64) {
        if let Ok(small) = u32::try_from(value) {
            if to >= 8 {
                self.bytes.push(0x41);
            }
            self.bytes.push(0xb8 | to & 7);
            self.raw(&small.to_le_bytes());
        } else if let Some(small) = signed(value) {
            self.encode(Opcode::wide(&[0xc7]), 0, Rm::Register(to), &small.to_le_bytes());
        } else {
            self.raw(&[0x48 | to >> 3, 0xb8 | to & 7]);
            self.raw(&value.to_le_bytes());
        }
    }

    /// A constant into eight bytes of memory, by way of `scratch` if it is a large one.
    pub(super) fn store_constant(&mut self, to: Place, value: u64, scratch: Host) {
        if let Some(small) = signed(value) {
            self.encode(Opcode::wide(&[0xc7]), 0, Rm::Memory(to), &small.to_le_bytes());
        } else {
            self.constant(scratch, value);
            self.store(to, scratch);
        }
    }

    /// `add`, `and`, `cmp`… (by their number, 0–7) of a register and a constant.
    pub(super) fn arithmetic(&mut self, number: u8, to: Host, value: i32, wide: bool) {
        let rm = Rm::Register(to);
        let opcode = |bytes| Opcode { prefixes: &[], wide, rex: false, bytes };
        match i8::try_from(value) {
            Ok(small) => self.encode(opcode(&[0x83]), number, rm, &small.to_le_bytes()),
            Err(_) => self.encode(opcode(&[0x81]), number, rm, &value.to_le_bytes()),
        }
    }

    /// A jump to a known place.
    pub(super) fn jump(&mut self, target: u32) {
        let hole = self.jump_ahead();
        self.aim(hole, target);
    }

    /// A jump to a place that is not known yet.
    pub(super) fn jump_ahead(&mut self) -> Hole {
        self.bytes.push(0xe9);
        self.hole()
    }

    /// A conditional jump likewise.
    pub(super) fn branch_ahead(&mut self, condition: u8) -> Hole {
        self.raw(&[0x0f, 0x80 | condition]);
        self.hole()
    }

    /// A call of a known place.
    pub(super) fn call(&mut self, target: u32) {
        self.bytes.push(0xe8);
        let hole = self.hole();
        self.aim(hole, target);
    }

    fn hole(&mut self) -> Hole {
        let hole = Hole(self.bytes.len());
        self.word(0);
        hole
    }

    /// The jump goes here.
    pub(super) fn bind(&mut self, hole: Hole) {
        let here = self.here();
        self.aim(hole, here);
    }

    /// The jump goes to this place.
    pub(super) fn aim(&mut self, hole: Hole, target: u32) {
        let distance = target.wrapping_sub(self.start + hole.0 as u32 + 4);
        if let Some(place) = self.bytes.get_mut(hole.0..hole.0 + 4) {
            place.copy_from_slice(&distance.to_le_bytes());
        }
    }

    /// Where the distance of a jump lies, for who wants to change it later.
    pub(super) fn place_of(&self, hole: Hole) -> u32 {
        self.start + hole.0 as u32
    }
}

/// The value as 32 bits that are sign-extended.
pub(super) fn signed(value: u64) -> Option<i32> {
    i32::try_from(value as i64).ok()
}
