//! How a guest crashed: which vCPU, where, and with what in its registers.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A register. JSON has it as text in base 16: a reader's numbers may have 53 bits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word(pub u64);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match to.is_human_readable() {
            true => to.collect_str(&format_args!("{:#x}", self.0)),
            false => to.serialize_u64(self.0),
        }
    }
}

impl<'a> Deserialize<'a> for Word {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return u64::deserialize(from).map(Self);
        }
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        let word = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
        match word {
            Some(Ok(word)) => Ok(Self(word)),
            _ => Err(serde::de::Error::custom("a register is 0x… in base 16")),
        }
    }
}

/// A vCPU's instruction pointer, flags and general registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "registers, by the names that everyone knows")]
pub struct Registers {
    pub rip: Word,
    pub rflags: Word,
    pub rax: Word,
    pub rbx: Word,
    pub rcx: Word,
    pub rdx: Word,
    pub rsi: Word,
    pub rdi: Word,
    pub rbp: Word,
    pub rsp: Word,
    pub r8: Word,
    pub r9: Word,
    pub r10: Word,
    pub r11: Word,
    pub r12: Word,
    pub r13: Word,
    pub r14: Word,
    pub r15: Word,
}

impl Registers {
    /// Each with its name, in the order of the fields.
    pub fn named(&self) -> [(&'static str, u64); 18] {
        [
            ("rip", self.rip),
            ("rflags", self.rflags),
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rbp", self.rbp),
            ("rsp", self.rsp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
        ]
        .map(|(name, word)| (name, word.0))
    }
}

/// A crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Whose.
    pub vcpu: u32,
    /// What happened.
    pub reason: String,
    /// Its registers, if the engine could tell them.
    pub registers: Option<Registers>,
}

impl Display for Crash {
    /// One sentence, without the registers but RIP.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {}: {}", self.vcpu, self.reason)?;
        match self.registers {
            Some(registers) => write!(f, " at {:#x}", registers.rip.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_says_whose_what_and_where() {
        let registers = Registers { rip: Word(0x10_0000), ..Registers::default() };
        let crash = Crash { vcpu: 1, reason: "triple fault".into(), registers: Some(registers) };
        assert_eq!(crash.to_string(), "vCPU 1: triple fault at 0x100000");
        let unknown = Crash { registers: None, ..crash };
        assert_eq!(unknown.to_string(), "vCPU 1: triple fault");
    }

    #[test]
    fn every_register_has_its_name() {
        let mut registers = Registers::default();
        (registers.rip, registers.r15, registers.rsp) = (Word(1), Word(2), Word(3));
        let named = registers.named();
        assert!(named.contains(&("rip", 1)) && named.contains(&("r15", 2)));
        assert!(named.contains(&("rsp", 3)));
        let nonzero = named.iter().filter(|(_, word)| *word != 0).count();
        assert_eq!(nonzero, 3);
    }
}
