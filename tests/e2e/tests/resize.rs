//! A guest's disk grows while it runs, and its kernel sees it without being asked to look.

mod stage;

use bulkhead_harness::block::Block;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{Linux, Stage, processes_of};

fn kill_process(stage: &Stage, role: &str) {
    let processes = processes_of(stage.name());
    let process = processes.iter().find(|process| process["role"] == role).unwrap();
    let _already_dead =
        kill(Pid::from_raw(process["pid"].as_i64().unwrap() as i32), Signal::SIGKILL);
}

/// Waits until the guest's kernel says that its disk has so many sectors.
fn wait_for_sectors(linux: &mut Linux, sectors: u64) {
    // What is typed is echoed, and has no number in it.
    linux.say(&format!(
        "while [ $(cat /sys/block/vda/size) != {sectors} ]; do usleep 1000; done; echo grown$((0))"
    ));
    linux.wait_for("grown0");
}

#[test]
fn a_guest_sees_that_its_disk_has_grown_and_uses_what_is_new() {
    let stage = Stage::new();
    let image = stage.path("disk");
    let Some(mut linux) = Linux::start(&stage, "shell", &image, 16) else { return };
    linux.wait_for("under Bulkhead");
    wait_for_sectors(&mut linux, 16 << 11);
    let block = Block::of(stage.name());
    block.run(&["resize"], &["d0", "24M"]).expect("more room");
    wait_for_sectors(&mut linux, 24 << 11);
    // Whoever is started anew tells it the same; and one that dies at once tells it in its successor.
    kill_process(&stage, "vhost-blk");
    kill_process(&stage, "block-layer");
    block.insist(&["resize"], &["d0", "32M"]).expect("more room");
    kill_process(&stage, "vhost-blk");
    wait_for_sectors(&mut linux, 32 << 11);
    linux.say("dd if=/dev/zero bs=1M count=8 seek=24 conv=fsync of=/dev/vda && echo filled$((0))");
    linux.wait_for("filled0");
    linux.say(
        "echo last words | dd bs=512 seek=$((65536-1)) conv=sync,fsync of=/dev/vda; sync; exit",
    );
    let (said, code) = linux.end();
    assert_eq!(code, Some(0), "{said}");
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(bytes.len(), 32 << 20);
    assert!(bytes[(32 << 20) - 512..].starts_with(b"last words"), "{said}");
}
