//! A guest's disk gets new layers, loses them again and moves, while the guest writes, and it notices nothing.

mod stage;

use std::path::Path;
use std::process::Command;

use bulkhead_harness::block::Block;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Linux, Stage, processes_of};

/// How often the disk gets a layer that is committed.
const ROUNDS: u32 = 5;

fn kill_block_layer(stage: &Stage) {
    let processes = processes_of(stage.name());
    let layer = processes.iter().find(|process| process["role"] == "block-layer").unwrap();
    let pid = layer["pid"].as_i64().unwrap();
    let _already_dead = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
}

#[test]
fn a_disk_changes_its_files_while_the_guest_writes() {
    let stage = Stage::new();
    let image = stage.path("disk");
    // It writes numbered chunks until it is told `enough`, and reads them back.
    let Some(mut demo) = Linux::start(&stage, "demo", &image, 48) else { return };
    demo.wait_for("demo: writing");
    let block = Block::of(stage.name());
    for round in 0..ROUNDS {
        let layer = stage.path(&format!("{round}.qcow2"));
        block.snapshot(Path::new(&layer)).expect("a layer");
        assert_eq!(block.layers(), [Path::new(&layer), Path::new(&image)]);
        block.insist(&["commit"], &["d0", "--keep"]).expect("a commit");
        if round % 2 == 1 {
            kill_block_layer(&stage);
        }
        block.finish("commit-d0").expect("the commit's end");
        assert_eq!(block.layers(), [Path::new(&image)]);
    }
    let copy = stage.path("copy.raw");
    let target = format!("path={copy},format=raw");
    block.run(&["mirror"], &["d0", "--target", &target, "--keep"]).expect("a mirror");
    block.finish("mirror-d0").expect("the mirror's end");
    assert_eq!(block.layers(), [Path::new(&copy)]);
    demo.say("enough");
    demo.wait_for("demo: done");
    let (said, code) = demo.end();
    assert!(!said.contains("FAILED"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    let check = Command::new("e2fsck").args(["-fn", &copy]).output().expect("e2fsck");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
