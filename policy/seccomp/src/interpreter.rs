//! A BPF machine as far as seccomp uses one: tests ask it what the kernel would say.

use crate::Instruction;

/// What a filter looks at: `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub number: u32,
    pub architecture: u32,
    pub arguments: [u64; 6],
}

impl Data {
    /// The word at a byte offset.
    fn word(&self, offset: u32) -> u32 {
        let half = |index: usize, high: bool| {
            let argument = self.arguments[index];
            if high { (argument >> 32) as u32 } else { argument as u32 }
        };
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 => half((offset as usize - 16) / 8, offset % 8 == 4),
            other => panic!("no program reads offset {other}"),
        }
    }
}

/// Verdict of a program. Panics on an instruction that `seccompiler` does not make.
pub fn run(program: &[Instruction], data: &Data) -> u32 {
    let mut accumulator = 0;
    let mut next = 0;
    loop {
        let Instruction { code, jt, jf, k } = program[next];
        next += 1;
        let skip = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => next += k as usize,
            0x15 => next += skip(accumulator == k),
            0x25 => next += skip(accumulator > k),
            0x35 => next += skip(accumulator >= k),
            0x06 => return k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}
