//! What hostile images may cost: none of them more than a second of CPU time or a bounded growth of memory,
//! and nothing is opened. Alone in its process, whose memory it measures: the file itself is in it, as far as
//! it is not zeroes.
//!
//! ```text
//! BULKHEAD_IMAGES=10000 cargo test -p bulkhead-hostile --test images -- --nocapture
//! ```

use std::fs;

use bulkhead_hostile::decoder::DECODERS;
use bulkhead_hostile::footprint::Footprint;
use bulkhead_hostile::mutate::{Dice, input};

/// Images for each decoder with the other tests; `BULKHEAD_IMAGES` sets another number.
const FEW: u64 = 250;

/// Most nanoseconds of CPU time for everything that is tried with one image.
const SECOND: u64 = 1_000_000_000;

/// Most KiB that the process may grow by, the file included.
const MOST: u64 = 64 << 10;

fn images() -> u64 {
    let given = std::env::var("BULKHEAD_IMAGES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

/// CPU time of this thread in nanoseconds.
fn used() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("proc is there");
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Most KiB that were resident at a time.
fn peak() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("proc is there");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn no_image_costs_a_second_or_memory_without_bound_or_opens_anything() {
    let decoders = DECODERS.iter().filter(|decoder| decoder.name.starts_with("qcow2"));
    for decoder in decoders {
        let samples = (decoder.samples)();
        for sample in &samples {
            (decoder.run)(sample);
        }
        let (footprint, before) = (Footprint::now(), peak());
        let mut dice = Dice::new(11);
        let mut slowest = 0;
        for _ in 0..images() {
            let bytes = input(&samples, &mut dice);
            let start = used();
            (decoder.run)(&bytes);
            let took = used() - start;
            assert!(took < SECOND, "{}: {took} ns for {bytes:02x?}", decoder.name);
            slowest = slowest.max(took);
        }
        let growth = peak().saturating_sub(before);
        assert!(growth < MOST, "{}: {growth} KiB more", decoder.name);
        assert_eq!(footprint.descriptors, Footprint::now().descriptors, "{}", decoder.name);
        println!("{}: {} images, slowest {slowest} ns, {growth} KiB", decoder.name, images());
    }
}
