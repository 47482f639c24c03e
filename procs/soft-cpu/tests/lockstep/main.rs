//! The interpreter and compiled code side by side: two machines execute the same guest, and whatever the
//! guest could see is compared after each turn of some thousand instructions, at each exit, and now and
//! then in all of RAM.
//!
//! Time is the number of instructions executed, so that both see the same; one board serves both: it
//! answers the interpreter's exits, and the other machine gets the same answers if it asks for the same.
//! Several vCPUs take turns on one thread: what they do at the same time is not compared here.
//!
//! By default a short run; `BULKHEAD_LOCKSTEP=all` boots to the init. `BULKHEAD_LOCKSTEP_TURN` is the
//! length of a turn, to find a disagreement's place. Without a kernel in target/guest the test says so.

#[path = "../boot/archive.rs"]
mod archive;
#[path = "../boot/board.rs"]
mod board;
mod pair;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use pair::{End, Pair};

/// What the init prints.
const GREETING: &str = "init runs on the software CPU\n";

/// Instructions of the short run.
const SHORT: u64 = 60_000_000;

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn the_interpreter_and_compiled_code_boot_debians_kernel_alike() {
    boot_alike(1);
}

/// The two take turns on one thread, so that what they do to each other's memory and translations is the same.
#[test]
fn so_they_do_with_two_vcpus() {
    boot_alike(2);
}

fn boot_alike(vcpus: u8) {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/vmlinux");
    let Ok(kernel) = File::open(kernel) else {
        eprintln!("skipped: no kernel in target/guest");
        return;
    };
    let archive = archive::of_init(GREETING);
    let initrd = bulkhead_sys::memfd::create_sealed("initrd", archive.len() as u64).unwrap();
    let mut initrd = File::from(initrd);
    initrd.write_all(&archive).unwrap();
    let all = std::env::var("BULKHEAD_LOCKSTEP").is_ok_and(|how| how == "all");
    let turn = number("BULKHEAD_LOCKSTEP_TURN", 4096);
    let mut pair =
        Pair::new(&kernel, &initrd, vcpus, turn, number("BULKHEAD_LOCKSTEP_THRESHOLD", 2));
    let end = pair.run(if all { u64::MAX } else { SHORT });
    println!("{} turns, {} exits, {} compiled blocks", pair.turns, pair.exits, pair.compiled());
    assert_eq!(pair.differences, 0, "they disagree");
    if all {
        assert_eq!(end, End::Off);
        let said = pair.console();
        let all_are_up = format!("Brought up 1 node, {vcpus} CPU");
        assert!(said.contains(GREETING.trim()) && said.contains(&all_are_up), "{said}");
    } else {
        assert_eq!(end, End::Enough);
    }
}
