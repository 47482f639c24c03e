//! The registers as gdb knows them: one table says name, width, order and where each is.
//!
//! The first three groups are gdb's own features, in its order (`org.gnu.gdb.i386.core`, `.sse`,
//! `.segments`); the last is ours and can be read only.

use bulkhead_protocol::gdb::DebugRegisters;

use crate::fpu;

/// Where a register is in [`DebugRegisters`]; positions in its `FXSAVE` area by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of the general ones.
    General(usize),
    /// Instruction pointer.
    Rip,
    /// Flags.
    Rflags,
    /// One of the selectors.
    Selector(usize),
    /// One of the bases.
    Base(usize),
    /// One of the control registers.
    Control(usize),
    /// EFER.
    Efer,
    /// So many bytes of the area, zero-extended.
    Fx(usize, usize),
    /// The x87 tag word.
    Tags,
}

/// One register.
#[derive(Debug, Clone, Copy)]
pub struct Register {
    /// gdb's name.
    pub name: &'static str,
    /// Width in bits.
    pub bits: usize,
    /// gdb's type.
    pub kind: &'static str,
    /// Where it is.
    pub place: Place,
}

const fn register(name: &'static str, bits: usize, kind: &'static str, place: Place) -> Register {
    Register { name, bits, kind, place }
}

const GENERAL: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
const SELECTORS: [&str; 6] = ["cs", "ss", "ds", "es", "fs", "gs"];
const X87: [&str; 8] = ["st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"];
/// Control words of the x87, and where `FXSAVE` keeps them; the tag word is apart.
const X87_WORDS: [(&str, usize, usize); 8] = [
    ("fctrl", 0, 2),
    ("fstat", 2, 2),
    ("ftag", 4, 0),
    ("fiseg", 12, 2),
    ("fioff", 8, 4),
    ("foseg", 20, 2),
    ("fooff", 16, 4),
    ("fop", 6, 2),
];
const VECTORS: [&str; 16] = [
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
    "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
];
const CONTROL: [&str; 5] = ["cr0", "cr2", "cr3", "cr4", "cr8"];

/// A group of registers: gdb's name for it, and the registers in gdb's order.
pub fn groups() -> [(&'static str, Vec<Register>); 4] {
    let general = (0..).zip(GENERAL).map(|(index, name)| {
        let kind = match name {
            "rbp" | "rsp" => "data_ptr",
            _ => "int64",
        };
        register(name, 64, kind, Place::General(index))
    });
    let pointer = register("rip", 64, "code_ptr", Place::Rip);
    let flags = register("eflags", 32, "i386_eflags", Place::Rflags);
    let selectors = (0..)
        .zip(SELECTORS)
        .map(|(index, name)| register(name, 32, "int32", Place::Selector(index)));
    let stack = (0..)
        .zip(X87)
        .map(|(index, name)| register(name, 80, "i387_ext", Place::Fx(32 + 16 * index, 10)));
    let words = X87_WORDS.map(|(name, at, len)| {
        let place = if name == "ftag" { Place::Tags } else { Place::Fx(at, len) };
        register(name, 32, "int", place)
    });
    let vectors = (0..)
        .zip(VECTORS)
        .map(|(index, name)| register(name, 128, "vec128", Place::Fx(160 + 16 * index, 16)));
    let mxcsr = register("mxcsr", 32, "i386_mxcsr", Place::Fx(24, 4));
    let bases = [("fs_base", 0), ("gs_base", 1)];
    let bases = bases.map(|(name, index)| register(name, 64, "int", Place::Base(index)));
    let control =
        (0..).zip(CONTROL).map(|(index, name)| register(name, 64, "int", Place::Control(index)));
    let kernel_base = register("k_gs_base", 64, "int", Place::Base(2));
    let efer = register("efer", 64, "int", Place::Efer);
    [
        (
            "org.gnu.gdb.i386.core",
            general.chain([pointer, flags]).chain(selectors).chain(stack).chain(words).collect(),
        ),
        ("org.gnu.gdb.i386.sse", vectors.chain([mxcsr]).collect()),
        ("org.gnu.gdb.i386.segments", bases.to_vec()),
        ("bulkhead.control", [kernel_base].into_iter().chain(control).chain([efer]).collect()),
    ]
}

/// All of one vCPU's, as gdb's packets have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registers(pub DebugRegisters);

impl Registers {
    fn get(&self, place: Place) -> [u8; 16] {
        let Self(all) = self;
        let word = |value: Option<&u64>| value.copied().unwrap_or(0);
        let mut bytes = [0; 16];
        let value = match place {
            Place::General(index) => word(all.general.get(index)),
            Place::Rip => all.rip,
            Place::Rflags => all.rflags,
            Place::Selector(index) => all.selectors.get(index).copied().unwrap_or(0).into(),
            Place::Base(index) => word(all.bases.get(index)),
            Place::Control(index) => word(all.control.get(index)),
            Place::Efer => all.efer,
            Place::Tags => fpu::whole_tags(&all.fx).into(),
            Place::Fx(at, len) => {
                let from = all.fx.get(at..at + len).unwrap_or_default();
                bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                return bytes;
            }
        };
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    fn set(&mut self, place: Place, bytes: &[u8]) {
        let Self(all) = self;
        let value = bytes.iter().take(8).rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let put = |to: Option<&mut u64>| {
            if let Some(to) = to {
                *to = value;
            }
        };
        match place {
            Place::General(index) => put(all.general.get_mut(index)),
            Place::Rip => all.rip = value,
            Place::Rflags => all.rflags = value,
            Place::Selector(index) => {
                if let Some(to) = all.selectors.get_mut(index) {
                    *to = value as u16;
                }
            }
            Place::Base(index) => put(all.bases.get_mut(index)),
            Place::Control(index) => put(all.control.get_mut(index)),
            Place::Efer => all.efer = value,
            Place::Tags => {
                if let Some(to) = all.fx.get_mut(4) {
                    *to = fpu::abridged_tags(value as u16);
                }
            }
            Place::Fx(at, len) => {
                let to = all.fx.get_mut(at..at + len).unwrap_or_default();
                to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Whether the registers that can only be read are the same.
    pub fn has_same_mode(&self, other: &Self) -> bool {
        let mode = |all: &DebugRegisters| (all.selectors, all.bases[2], all.control, all.efer);
        mode(&self.0) == mode(&other.0)
    }
}

/// Bytes of an `FXSAVE` area.
const FX: usize = 512;

impl gdbstub::arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.0.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        for register in groups().iter().flat_map(|(_, registers)| registers) {
            let bytes = self.get(register.place);
            bytes.iter().take(register.bits / 8).for_each(|byte| write_byte(Some(*byte)));
        }
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.fx.resize(FX, 0);
        let mut rest = bytes;
        for register in groups().iter().flat_map(|(_, registers)| registers) {
            let (own, behind) = rest.split_at_checked(register.bits / 8).ok_or(())?;
            self.set(register.place, own);
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gdbstub::arch::Registers as _;

    fn some() -> Registers {
        let mut all = DebugRegisters {
            general: std::array::from_fn(|index| 0x1111_1111_1111_1111 * index as u64),
            rip: 0xffff_ffff_8100_0000,
            rflags: 0x246,
            selectors: [0x10, 0x18, 0, 0, 0, 0],
            bases: [1, 2, 3],
            control: [0x8005_0033, 0, 0x1000, 0xa0, 0],
            efer: 0xd01,
            fx: (0..512).map(|index| index as u8).collect(),
        };
        all.fx[6] = 0;
        Registers(all)
    }

    fn bytes(registers: &Registers) -> Vec<u8> {
        let mut bytes = Vec::new();
        registers.gdb_serialize(|byte| bytes.push(byte.unwrap()));
        bytes
    }

    #[test]
    fn they_are_where_gdb_looks_for_them() {
        let bytes = bytes(&some());
        let sse = 16 * 8 + 8 + 4 + 6 * 4 + 8 * 10 + 8 * 4;
        assert_eq!(bytes.len(), sse + 16 * 16 + 4 + 2 * 8 + 7 * 8);
        assert_eq!(bytes[8..16], 0x1111_1111_1111_1111u64.to_le_bytes());
        assert_eq!(bytes[128..136], 0xffff_ffff_8100_0000u64.to_le_bytes());
        assert_eq!(bytes[136..140], 0x246u32.to_le_bytes());
        assert_eq!(bytes[140..144], 0x10u32.to_le_bytes());
        assert_eq!(bytes[sse..sse + 16], some().0.fx[160..176]);
        assert_eq!(bytes[bytes.len() - 8..], 0xd01u64.to_le_bytes());
    }

    #[test]
    fn they_come_back_as_they_went() {
        let sent = bytes(&some());
        let mut back = Registers::default();
        back.gdb_deserialize(&sent).unwrap();
        assert_eq!(bytes(&back), sent);
        assert!(back.has_same_mode(&some()));
        back.0.control[0] ^= 1;
        assert!(!back.has_same_mode(&some()));
        for len in [0, 1, sent.len() - 1] {
            assert!(Registers::default().gdb_deserialize(&sent[..len]).is_err());
        }
        assert!(Registers::default().gdb_deserialize(&[sent, vec![0]].concat()).is_err());
    }
}
