//! Judges two outcomes, and keeps count.

use std::collections::BTreeMap;
use std::fmt::Write;

use iced_x86::{Code, Mnemonic as M, OpKind};

use crate::generate::Trial;
use crate::layout::{Bits, DATA};
use crate::state::{Fault, Outcome, State};

/// Forms of which mismatches are shown, and how many of each.
const SHOWN: (usize, u64) = (20, 2);

#[derive(Default)]
pub struct Report {
    pub instances: u64,
    pub mismatches: u64,
    faults: u64,
    /// By code: instances, mismatches.
    codes: BTreeMap<String, (u64, u64)>,
    shown: BTreeMap<String, u64>,
}

/// Flags that the manual leaves undefined and that the host's microcode decides.
fn undefined_flags(trial: &Trial) -> u64 {
    match trial.instruction.mnemonic() {
        M::Div | M::Idiv => 0x8d5,
        // OF is defined for a count of 1 only; with an immediate, CPUs do not even agree with themselves.
        M::Rol | M::Ror | M::Rcl | M::Rcr if trial.instruction.op1_kind() == OpKind::Immediate8 => {
            0x800
        }
        _ => 0,
    }
}

/// Loads of a whole state, whose parts are read in an order of the host's own.
fn reads_in_parts(trial: &Trial) -> bool {
    matches!(trial.instruction.mnemonic(), M::Fldenv | M::Frstor | M::Fxrstor | M::Fxrstor64)
}

/// Stores of more than eight bytes that fault on their second page: the host has written the first part.
fn writes_in_parts(trial: &Trial) -> bool {
    matches!(
        trial.instruction.mnemonic(),
        M::Fbstp
            | M::Fstp
            | M::Fnstenv
            | M::Fnsave
            | M::Fxsave
            | M::Fxsave64
            | M::Maskmovq
            | M::Maskmovdqu
    )
}

/// Operands that are reached piece by piece, in an order of the host's own: where one piece lies beyond its segment and
/// another on a missing page, either may be told of.
fn moves_in_parts(trial: &Trial) -> bool {
    matches!(trial.instruction.code(), Code::Fld_m80fp | Code::Fbld_m80bcd)
        || reads_in_parts(trial)
        || writes_in_parts(trial)
}

fn uses_mmx(trial: &Trial) -> bool {
    let instruction = &trial.instruction;
    instruction.mnemonic() == M::Maskmovq
        || (0..instruction.op_count().min(2)).any(|index| {
            instruction.op_kind(index) == OpKind::Register && instruction.op_register(index).is_mm()
        })
        || matches!(instruction.mnemonic(), M::Cvtpi2ps | M::Cvtpi2pd)
}

/// The x87 registers as if the top of the stack were 0.
fn turn_to_zero(fx: &mut [u8; 512]) {
    let top = usize::from(fx[3] >> 3 & 7);
    fx[32..160].rotate_right(top * 16);
    fx[3] &= !0x38;
}

/// Makes equal what nobody promises to be.
fn settled(run: &[Trial], outcome: &Outcome) -> Outcome {
    let any = |test: fn(&Trial) -> bool| run.iter().any(test);
    let mut outcome = outcome.clone();
    let state = &mut outcome.state;
    state.flags &= !run.iter().fold(0, |flags, trial| flags | undefined_flags(trial));
    state.padding = [0; 6];
    if run[0].bits != Bits::Bits64 {
        // Whatever a change of mode leaves in the parts that other code does not see.
        state.registers.iter_mut().for_each(|register| *register &= 0xffff_ffff);
        state.registers[8..].fill(0);
    }
    if let Some(fault) = &mut outcome.fault {
        if any(uses_mmx) {
            // Whether an MMX instruction that faults has turned the stack already.
            turn_to_zero(&mut state.fx);
        }
        if fault.address >> 47 != 0 {
            // Whether the page is present is the host kernel's to know.
            fault.code &= !1;
        }
        if any(writes_in_parts) || any(reads_in_parts) {
            fault.address &= !0xfff;
        }
        if any(|trial| matches!(trial.instruction.mnemonic(), M::Maskmovq | M::Maskmovdqu)) {
            // Which of two missing pages is named, the mask decides in ways of the host's own.
            fault.address = 0;
        }
        let is_of_memory = (12..=14).contains(&fault.vector);
        if run[0].bits == Bits::Bits16 && is_of_memory && any(moves_in_parts) {
            *fault = Fault { vector: 14, code: 0, address: 0 };
        }
        if fault.vector == 19 {
            // PE beside an unmasked overflow or underflow, and what sums of products raise: see `vector::mxcsr`.
            let is_sum = any(|trial| matches!(trial.instruction.mnemonic(), M::Dpps | M::Dppd));
            state.fx[24] &= if is_sum { !0x3f } else { !0x20 };
        }
    }
    // The last x87 opcode, which current CPUs keep only for unmasked exceptions; the mask of MXCSR; what software owns.
    state.fx[6..8].fill(0);
    state.fx[28..32].fill(0);
    state.fx[416..].fill(0);
    outcome
}

impl Report {
    /// Counts one instance; `outcomes` and `data` are the host's and the interpreter's.
    pub fn judge(
        &mut self,
        run: &[Trial],
        before: &State,
        outcomes: [&Outcome; 2],
        data: [&[u8]; 2],
    ) {
        let [expected, found] = outcomes.map(|outcome| settled(run, outcome));
        self.instances += 1;
        self.faults += u64::from(expected.fault.is_some());
        // A fault in a store of many bytes finds the first of them written, on the host.
        let memory_counts = expected.fault.is_none() || !run.iter().any(writes_in_parts);
        let is_equal = expected == found && (data[0] == data[1] || !memory_counts);
        if self.instances.is_multiple_of(16) || !is_equal {
            let count = self.codes.entry(name(run)).or_default();
            count.0 += 1;
            count.1 += u64::from(!is_equal);
        }
        if !is_equal {
            self.mismatches += 1;
            self.show(run, before, &(differences(before, &expected, &found) + &memory(data)));
        }
    }

    fn show(&mut self, run: &[Trial], before: &State, text: &str) {
        let shown = self.shown.entry(name(run)).or_default();
        *shown += 1;
        if *shown <= SHOWN.1 && self.shown.len() <= SHOWN.0 {
            let bytes: Vec<_> = run.iter().map(|trial| &trial.bytes).collect();
            println!("{} {bytes:02x?} flags {:#x}:{text}", name(run), before.flags);
        }
    }

    /// Says what was compared.
    pub fn print(&self) {
        println!(
            "{} instances of {} forms (sampled), {} faulted, {} mismatches",
            self.instances,
            self.codes.len(),
            self.faults,
            self.mismatches
        );
        for (code, (_, mismatches)) in
            self.codes.iter().filter(|(_, (_, mismatches))| *mismatches != 0)
        {
            println!("  {code}: {mismatches}");
        }
    }
}

/// The form of an instruction, or the forms of a run.
fn name(run: &[Trial]) -> String {
    let names: Vec<_> = run.iter().map(|trial| format!("{:?}", trial.instruction.code())).collect();
    names.join(" ")
}

fn memory([native, guest]: [&[u8]; 2]) -> String {
    let mut text = String::new();
    let bytes =
        (DATA..).zip(native.iter().zip(guest)).filter(|(_, (native, guest))| native != guest);
    for (at, (native, guest)) in bytes.take(16) {
        let _ = write!(text, " [{at:#x}] {native:02x} not {guest:02x}");
    }
    text
}

fn differences(before: &State, expected: &Outcome, found: &Outcome) -> String {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    let mut text = String::new();
    if expected.fault != found.fault {
        let _ = write!(text, " fault {:x?} not {:x?}", expected.fault, found.fault);
    }
    let registers =
        expected.state.registers.iter().zip(&found.state.registers).zip(&before.registers);
    for (name, ((expected, found), before)) in NAMES.iter().zip(registers) {
        if expected != found {
            let _ = write!(text, " {name} {expected:#x} not {found:#x} (was {before:#x})");
        }
    }
    if expected.state.flags != found.state.flags {
        let _ = write!(text, " flags {:#x} not {:#x}", expected.state.flags, found.state.flags);
    }
    if expected.state.rip != found.state.rip {
        let _ = write!(text, " rip {:#x} not {:#x}", expected.state.rip, found.state.rip);
    }
    for at in (0..512).step_by(8) {
        let part = |bytes: &[u8; 512]| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
        };
        let (expected, found, before) =
            (part(&expected.state.fx), part(&found.state.fx), part(&before.fx));
        if expected != found {
            let _ = write!(text, " fx[{at}] {expected:#x} not {found:#x} (was {before:#x})");
        }
    }
    text
}
