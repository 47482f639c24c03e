//! Which forms are tried, and why others are not.
//!
//! A form is what `iced` calls a code: an opcode with the kinds and sizes of its operands. It is judged in each mode that it
//! decodes in.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as M, OpKind,
    Register,
};

use crate::generate;
use crate::layout::{self, Bits};
use crate::random::Random;

/// What becomes of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Both sides execute it.
    Tried,
    /// The processor offers it, but it can't be tried here.
    Masked(&'static str),
    /// CPUID does not announce it.
    NotOffered,
}

/// What becomes of this instruction's form.
pub fn fate(bits: Bits, instruction: &Instruction) -> Fate {
    let mut features = instruction.cpuid_features().iter();
    if instruction.is_invalid() || !features.all(|feature| is_offered(*feature)) {
        return Fate::NotOffered;
    }
    reason(bits, instruction).map_or(Fate::Tried, Fate::Masked)
}

fn is_offered(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::CMOV
            | F::CPUID
            | F::CX8
            | F::CMPXCHG16B
            | F::POPCNT
            | F::LZCNT
            // Only `tzcnt` decodes, which is `bsf` to processors without.
            | F::BMI1
            | F::MOVBE
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::AES
            | F::PCLMULQDQ
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::MMX
            | F::FXSR
            | F::CET_IBT // Nothing, to processors without.
            | F::CLFSH
            | F::PAUSE
            | F::PREFETCHW
            | F::MULTIBYTENOP
            | F::FSGSBASE
            | F::INVPCID
            | F::MSR
            | F::RDTSCP
            | F::SEP
            | F::SMAP
            | F::SYSCALL
            | F::TSC
    )
}

const ASKS: &str = "asks the machine: time, CPUID";
const TABLES: &str = "asks for descriptor tables or control registers, which are the host kernel's";
const LOADS: &str = "loads a segment register";
const BASES: &str = "a segment base that the test's own thread lives by";
const ENTERS: &str = "enters the kernel";
const CHANGES: &str = "changes the code segment";
const LOW: &str = "cuts the instruction pointer to 16 bits, where nothing is mapped";

fn reason(bits: Bits, instruction: &Instruction) -> Option<&'static str> {
    let is_segment = |index| instruction.op_register(index).is_segment_register();
    let is_far = instruction.is_jmp_far()
        || instruction.is_call_far()
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect();
    Some(match instruction.mnemonic() {
        M::Cpuid | M::Rdtsc | M::Rdtscp | M::Rdpmc => ASKS,
        M::Lar | M::Lsl | M::Verr | M::Verw => TABLES,
        M::Sldt | M::Str | M::Smsw | M::Sgdt | M::Sidt => TABLES,
        M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => LOADS,
        M::Mov | M::Pop if instruction.op0_kind() == OpKind::Register && is_segment(0) => LOADS,
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => BASES,
        M::Int | M::Int1 | M::Int3 | M::Into | M::Syscall | M::Sysenter => ENTERS,
        M::Iret | M::Iretd | M::Iretq | M::Retf => CHANGES,
        M::Jmp | M::Call if is_far => CHANGES,
        _ if bits != Bits::Bits16 && target_bytes(instruction) == Some(2) => LOW,
        _ => return None,
    })
}

/// How an instruction chooses what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// By a distance.
    Distance,
    /// By a register's value.
    Register(Register),
    /// By what a memory operand holds.
    Memory,
    /// By what is on the stack.
    Stack,
}

/// How this one does, if it may lead elsewhere and is no far one.
pub fn lead(instruction: &Instruction) -> Option<Lead> {
    Some(match (instruction.flow_control(), instruction.op0_kind()) {
        (FlowControl::Return, _) if instruction.mnemonic() == M::Ret => Lead::Stack,
        (_, OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64) => Lead::Distance,
        (FlowControl::IndirectBranch | FlowControl::IndirectCall, OpKind::Register) => {
            Lead::Register(instruction.op0_register())
        }
        (FlowControl::IndirectBranch | FlowControl::IndirectCall, OpKind::Memory) => Lead::Memory,
        _ => return None,
    })
}

/// Bytes of the instruction pointer that this one brings.
pub fn target_bytes(instruction: &Instruction) -> Option<usize> {
    Some(match lead(instruction)? {
        Lead::Distance => match instruction.op0_kind() {
            OpKind::NearBranch16 => 2,
            OpKind::NearBranch32 => 4,
            _ => 8,
        },
        Lead::Register(register) => register.size(),
        Lead::Memory => instruction.memory_size().size(),
        Lead::Stack => match instruction.code() {
            Code::Retnw | Code::Retnw_imm16 => 2,
            Code::Retnd | Code::Retnd_imm16 => 4,
            _ => 8,
        },
    })
}

/// All forms of a mode that the decoder knows, with what becomes of each, by trying prefixes, opcodes and what stands
/// behind them.
pub fn decoded(bits: Bits) -> BTreeMap<Code, (Fate, Vec<Vec<u8>>)> {
    let mut forms = BTreeMap::<Code, (Fate, Vec<Vec<u8>>)>::new();
    let rex: &[&[u8]] = if bits == Bits::Bits64 { &[&[], &[0x48]] } else { &[&[]] };
    for wide in rex {
        for size in [&[][..], &[0x66]] {
            for mandatory in [&[][..], &[0xf2], &[0xf3]] {
                for address in [&[][..], &[0x67]] {
                    let prefixes = [size, mandatory, address, wide].concat();
                    every_opcode(bits, &prefixes, &mut forms);
                }
            }
        }
    }
    forms
}

fn every_opcode(bits: Bits, prefixes: &[u8], forms: &mut BTreeMap<Code, (Fate, Vec<Vec<u8>>)>) {
    for map in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
        for opcode in 0..=u8::MAX {
            for modrm in 0..=u8::MAX {
                let mut bytes = [prefixes, map, &[opcode, modrm]].concat();
                bytes.resize(15, 0);
                let instruction =
                    Decoder::with_ip(bits.number(), &bytes, 0, DecoderOptions::NONE).decode();
                if instruction.is_invalid() {
                    continue;
                }
                let form = forms
                    .entry(instruction.code())
                    .or_insert_with(|| (fate(bits, &instruction), Vec::new()));
                if form.1.len() < EXAMPLES {
                    form.1.push(bytes);
                }
            }
        }
    }
}

/// Encodings of a form that are looked at: with and without memory operand, and more.
const EXAMPLES: usize = 200;

/// Forms that the decoder never answers: its own marks; an x87 instruction with the `wait` before it, which are two; what
/// only AMD's processors make of a prefix; what is encoded by VEX, and `ud0` of a time when it was shorter.
const NEVER_DECODED: [Code; 33] = [
    Code::INVALID,
    Code::DeclareByte,
    Code::DeclareWord,
    Code::DeclareDword,
    Code::DeclareQword,
    Code::Zero_bytes,
    Code::Fstenv_m14byte,
    Code::Fstenv_m28byte,
    Code::Fstcw_m2byte,
    Code::Feni,
    Code::Fdisi,
    Code::Fclex,
    Code::Finit,
    Code::Fsetpm,
    Code::Fsave_m94byte,
    Code::Fsave_m108byte,
    Code::Fstsw_m2byte,
    Code::Fstsw_AX,
    Code::Loopne_rel8_16_RCX,
    Code::Loope_rel8_16_RCX,
    Code::Loop_rel8_16_RCX,
    Code::Jrcxz_rel8_16,
    Code::VEX_Andn_r32_r32_rm32,
    Code::VEX_Andn_r64_r64_rm64,
    Code::VEX_Blsr_r32_rm32,
    Code::VEX_Blsr_r64_rm64,
    Code::VEX_Blsmsk_r32_rm32,
    Code::VEX_Blsmsk_r64_rm64,
    Code::VEX_Blsi_r32_rm32,
    Code::VEX_Blsi_r64_rm64,
    Code::VEX_Bextr_r32_rm32_r32,
    Code::VEX_Bextr_r64_rm64_r64,
    Code::Ud0,
];

#[test]
fn every_form_that_is_offered_is_tried_or_masked_for_a_reason() {
    let mut random = Random::new(1);
    let mut met = BTreeSet::new();
    for bits in Bits::ALL {
        let (mut tried, mut not_offered, mut lost) = (0, 0, Vec::new());
        let mut masked = BTreeMap::<&str, Vec<Code>>::new();
        for (code, (fate, examples)) in decoded(bits) {
            met.insert(code);
            let mut settle =
                |bytes| generate::settle(&mut random, bits, layout::slot(bits, 0), bytes);
            match fate {
                Fate::NotOffered => not_offered += 1,
                Fate::Masked(reason) => masked.entry(reason).or_default().push(code),
                Fate::Tried if examples.into_iter().any(|bytes| settle(bytes).is_some()) => {
                    tried += 1
                }
                Fate::Tried => lost.push(code),
            }
        }
        println!("{bits:?}: {tried} forms tried, {not_offered} not offered");
        for (reason, codes) in masked {
            println!("  {reason}: {codes:?}");
        }
        assert!(lost.is_empty(), "{bits:?}: nothing generates {lost:?}");
    }
    met.extend(NEVER_DECODED);
    let is_offered = |code: &Code| code.cpuid_features().iter().all(|feature| is_offered(*feature));
    let unmet: Vec<_> =
        Code::values().filter(is_offered).filter(|code| !met.contains(code)).collect();
    assert!(unmet.is_empty(), "no encoding tried here decodes to {unmet:?}");
}
