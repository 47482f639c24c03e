//! The host CPU as the oracle: the same random instruction runs natively and in the interpreter, from the same registers and
//! memory, and everything the guest could see afterwards must be the same: general registers, flags, x87, MMX and SSE state,
//! memory, RIP, and the exception with its error code and address.
//!
//! ```text
//! generate ─► instruction + state ─┬─► native (this process, at the guest's own addresses) ─┐
//!                                  └─► guest (a Cpu at level 3, the same segments) ─────────┴─► compare
//! ```
//!
//! In 64-bit mode, in 32-bit code, and in 16-bit code whose segments have bases and limits of their own, from the local
//! descriptor table: what real mode does is that, with other limits and other loads of segments.
//!
//! `forms` judges every form that the decoder knows, in each mode, and its test fails if one that CPUID announces is neither
//! tried nor masked:
//!
//! | forms | |
//! | --- | --- |
//! | integer, x87, MMX, SSE…SSE4.2, AES, PCLMULQDQ, strings, stack, flags, reserved nops | tried |
//! | near jumps, calls, returns, loops, by distance, register, memory, stack | tried, leading to the next instruction |
//! | what level 3 may not do: ports, `cli`, `hlt`, control registers, MSRs, … | tried: it faults |
//! | `cpuid`, `rdtsc`, `rdtscp` | masked: the answer is the machine's |
//! | `lar`, `lsl`, `verr`, `verw`, `sldt`, `str`, `smsw`, `sgdt`, `sidt` | masked: the tables are the host kernel's |
//! | loads of segment registers, `wrfsbase` and its like | masked: the test's own thread lives by them |
//! | `int n`, `syscall`, `sysenter`, `iret`, far jumps, calls and returns | masked: they leave for the host kernel or another segment |
//! | 16-bit jumps outside 16-bit code | masked: they lead to the lowest 64 KiB, where nothing is |
//!
//! What is masked here is shown by `tests/guests`, from what the manual says. Of single instances, those that reach memory by
//! FS or GS are left out as well: the bases are the host thread's.
//!
//! A short run by default; `BULKHEAD_ORACLE=100000000` for a long one, `BULKHEAD_ORACLE_SEED` for another sequence. Only here
//! is anything executable mapped; the crate itself never does that.
#![allow(unsafe_code, reason = "runs random instructions natively")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "assembly that switches the whole register state"
)]

mod compare;
mod forms;
mod generate;
mod guest;
mod layout;
mod native;
mod operands;
mod random;
mod state;

use layout::Bits;
use random::Random;

/// Instances of the default run.
const SHORT: u64 = 200_000;
/// States that each instruction is tried with.
const STATES: u64 = 8;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Instructions of a run.
const RUN_LENGTH: usize = 8;

#[test]
fn the_host_cpu_and_the_interpreter_agree_on_single_instructions() {
    let wanted = number("BULKHEAD_ORACLE", SHORT);
    let mut random = Random::new(number("BULKHEAD_ORACLE_SEED", 1));
    let native = native::Native::new();
    let mut guest = guest::Guest::new(false);
    guest.set_data(native.data());
    let mut report = compare::Report::default();
    while report.instances < wanted {
        let bits = Bits::random(&mut random);
        guest.set_bits(bits);
        let mut batch = Vec::new();
        for slot in 0..layout::SLOTS {
            let at = layout::slot(bits, slot);
            let trial = generate::instruction(&mut random, bits, layout::ip(bits, at));
            native.place(bits, at, &trial.bytes);
            guest.place(at, &trial.bytes);
            batch.push((at, trial));
        }
        for (at, trial) in (0..STATES).flat_map(|_| &batch) {
            let before = operands::state(&mut random, std::slice::from_ref(trial));
            if let Some((place, bytes)) = operands::planted(&mut random, trial, &before) {
                native.plant(place, &bytes);
                guest.plant(place, &bytes);
            }
            let expected = native.run(bits, *at, &before);
            let found = guest.run_one(*at, trial.bytes.len(), &before);
            report.judge(
                std::slice::from_ref(trial),
                &before,
                [&expected, &found],
                [native.data(), guest.data()],
            );
            if native.data() != guest.data() {
                guest.set_data(native.data());
            }
        }
    }
    report.print();
    assert_eq!(report.mismatches, 0, "the interpreter disagrees with the host CPU");
}

#[test]
fn the_host_cpu_and_the_interpreter_agree_on_runs_of_instructions() {
    agree_on_runs(false);
}

#[test]
fn the_host_cpu_and_compiled_code_agree_on_runs_of_instructions() {
    agree_on_runs(true);
}

fn agree_on_runs(compiled: bool) {
    let wanted = number("BULKHEAD_ORACLE", SHORT) / RUN_LENGTH as u64;
    let mut random = Random::new(number("BULKHEAD_ORACLE_SEED", 1));
    let native = native::Native::new();
    let mut guest = guest::Guest::new(compiled);
    guest.set_data(native.data());
    let mut report = compare::Report::default();
    while report.instances < wanted {
        let bits = Bits::random(&mut random);
        guest.set_bits(bits);
        let mut batch = Vec::new();
        for number in 0..layout::RUNS {
            let at = layout::run(bits, number);
            let run = generate::run(&mut random, bits, layout::ip(bits, at), RUN_LENGTH);
            let bytes: Vec<_> = run.iter().flat_map(|trial| trial.bytes.clone()).collect();
            native.place(bits, at, &bytes);
            // ud2: the end.
            guest.place(at, &[&bytes[..], &[0x0f, 0x0b]].concat());
            batch.push((at, bytes.len(), run));
        }
        for (at, len, run) in (0..STATES).flat_map(|_| &batch) {
            let before = operands::state(&mut random, run);
            let expected = native.run(bits, *at, &before);
            let found = guest.run_all(*at, *len, &before);
            report.judge(run, &before, [&expected, &found], [native.data(), guest.data()]);
            if native.data() != guest.data() {
                guest.set_data(native.data());
            }
        }
    }
    report.print();
    assert_eq!(report.mismatches, 0, "the software CPU disagrees with the host CPU");
    let expected = if compiled { report.instances / RUN_LENGTH as u64 / STATES / 2 } else { 0 };
    assert!(guest.compiled() >= expected, "{} blocks were compiled", guest.compiled());
}
