//! Thousands of inputs against one decoder, the same on every run.

use crate::decoder::{Decoder, Verdict};
use crate::mutate::{Dice, input};

/// What an attack came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Inputs of which something was accepted.
    pub accepted: u64,
    /// Inputs of which nothing was.
    pub refused: u64,
}

/// Thousands of rounds: `BULKHEAD_ROUNDS`, or 5.
fn thousands() -> u64 {
    let wish = std::env::var("BULKHEAD_ROUNDS").ok();
    wish.and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// Attacks. A panic is the decoder's; the input that led to it is printed.
pub fn attack(decoder: &Decoder) -> Tally {
    let samples = (decoder.samples)();
    let mut dice = Dice::new(1);
    let mut tally = Tally::default();
    for sample in &samples {
        tally.count(run(decoder, sample));
    }
    for _ in 0..thousands() * 1000 {
        tally.count(run(decoder, &input(&samples, &mut dice)));
    }
    tally
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Refused => self.refused += 1,
        }
    }
}

fn run(decoder: &Decoder, bytes: &[u8]) -> Verdict {
    let witness = Witness { name: decoder.name, bytes };
    let verdict = (decoder.run)(bytes);
    std::mem::forget(witness);
    verdict
}

/// Names the input if it is dropped, which only a panic does.
struct Witness<'a> {
    name: &'static str,
    bytes: &'a [u8],
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{} panics on these {} bytes:\n{hex}", self.name, self.bytes.len());
    }
}
