//! Bulk copies between guest memory and an arena beside a plain `memcpy` of the same size.
//!
//! `cargo run -p bulkhead-memory --release --example copy`
//!
//! Figures to look at beside each other, never an assertion.

use std::hint::black_box;
use std::time::Instant;

use bulkhead_memory::{Grant, GuestRange, RamLayout, Rights};
use bulkhead_sys::mapping::SharedMapping;
use bulkhead_sys::memfd::create_sealed;

/// What all sizes together move through; small enough for the cache, as an arena in use is.
const SPAN: usize = 1 << 20;
const BYTES: usize = 4 << 30;

fn measure(what: &str, size: usize, mut copy: impl FnMut(usize)) {
    let start = Instant::now();
    for round in 0..BYTES / size {
        copy(round * size % SPAN);
    }
    let rate = BYTES as f64 / start.elapsed().as_secs_f64() / (1u64 << 30) as f64;
    println!("{what:>16} {size:>7} bytes: {rate:6.1} GiB/s");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layout = RamLayout::new(SPAN as u64)?;
    let ram = create_sealed("ram", layout.total())?;
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&ram)?;
    let arena = create_sealed("arena", SPAN as u64)?;
    let arena = SharedMapping::map(&arena, SPAN, Rights::ReadWrite)?;
    let (from, mut to) = (vec![1u8; SPAN], vec![2u8; SPAN]);
    memory.check(GuestRange::new(0, SPAN as u64))?.copy_out(&from)?;
    for size in [512, 4096, 128 << 10] {
        measure("memcpy", size, |at| {
            black_box(&mut to[at..at + size]).copy_from_slice(black_box(&from[at..at + size]));
        });
        let slice = |at| memory.check(GuestRange::new(at as u64, size as u64)).expect("inside");
        measure("guest to arena", size, |at| {
            slice(at).copy_to_mapping(&arena, at).expect("inside")
        });
        measure("arena to guest", size, |at| {
            slice(at).copy_from_mapping(&arena, at).expect("inside")
        });
    }
    let range = |at: usize| GuestRange::new(at as u64 % SPAN as u64, 64);
    let start = Instant::now();
    for n in 0..20_000_000usize {
        black_box(memory.check(black_box(range(n * 64))).expect("inside"));
    }
    println!("one check: {:.1} ns", start.elapsed().as_secs_f64() * 50.0);
    Ok(())
}
