//! Thousands of inputs as guest code, on the interpreter and compiled.

use bulkhead_hostile::attack::attack;
use bulkhead_hostile::decoder::Decoder;
use bulkhead_hostile::twins;

#[test]
fn compiled_code_does_what_the_interpreter_does_whatever_the_guest_executes() {
    let (run, samples) = (twins::run, twins::samples);
    let tally = attack(&Decoder { name: "twins", run, samples });
    assert!(tally.accepted > tally.refused, "hardly anything is compiled: {tally:?}");
}
