//! The host CPU as the oracle: the same random instruction runs natively and in the interpreter, from the same registers and
//! memory, and everything the guest could see afterwards must be the same: general registers, flags, x87, MMX and SSE state,
//! memory, RIP, and the exception with its error code and address.
//!
//! ```text
//! generate ─► instruction + state ─┬─► native (this process, at the guest's own addresses) ─┐
//!                                  └─► guest (a Cpu at level 3 in 64-bit mode) ─────────────┴─► compare
//! ```
//!
//! A short run by default; `BULKHEAD_ORACLE=100000000` for a long one, `BULKHEAD_ORACLE_SEED` for another sequence. Only here
//! is anything executable mapped; the crate itself never does that.
#![allow(unsafe_code, reason = "runs random instructions natively")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "assembly that switches the whole register state"
)]

mod compare;
mod generate;
mod guest;
mod layout;
mod native;
mod random;
mod state;

use layout::Bits;
use random::Random;

/// Instances of the default run.
const SHORT: u64 = 200_000;
/// Different instructions that are placed on the code page together.
const BATCH: usize = layout::SLOTS;
/// States that each instruction is tried with.
const STATES: u64 = 8;
/// Mismatches shown in full.
const SHOWN: u64 = 20;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn the_host_cpu_and_the_interpreter_agree() {
    let wanted = number("BULKHEAD_ORACLE", SHORT);
    let mut random = Random::new(number("BULKHEAD_ORACLE_SEED", 1));
    let native = native::Native::new();
    let mut guest = guest::Guest::new();
    let mut report = compare::Report::default();
    while report.instances < wanted {
        let bits = if random.once_in(4) { Bits::Bits32 } else { Bits::Bits64 };
        let batch: Vec<_> =
            (0..BATCH).map(|slot| generate::instruction(&mut random, bits, slot)).collect();
        for (slot, trial) in batch.iter().enumerate() {
            native.place(bits, slot, &trial.bytes);
        }
        guest.set_bits(bits);
        guest.place(bits, &batch);
        for _ in 0..STATES {
            for (slot, trial) in batch.iter().enumerate() {
                let before = generate::state(&mut random, trial);
                let expected = native.run(bits, slot, &before);
                let found = guest.run(bits, slot, trial, &before);
                let is_equal = report.judge(trial, &before, &expected, &found, SHOWN);
                if native.data() != guest.data() {
                    if is_equal && !(expected.fault.is_some() && compare::writes_in_parts(trial)) {
                        report.memory_differs(trial, &before, native.data(), guest.data(), SHOWN);
                    }
                    guest.set_data(native.data());
                }
            }
        }
    }
    report.print();
    assert_eq!(report.mismatches, 0, "the interpreter disagrees with the host CPU");
}
