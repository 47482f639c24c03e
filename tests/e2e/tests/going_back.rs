//! A guest's disk goes back to an internal snapshot while the guest is paused.

mod stage;

use std::path::Path;

use bulkhead_harness::block::Block;
use stage::{Linux, Stage, refused};

#[test]
fn a_paused_guests_disk_goes_back_and_a_running_ones_does_not() {
    let stage = Stage::new();
    let image = stage.path("disk");
    let Some(mut linux) = Linux::start(&stage, "shell", &image, 16) else { return };
    linux.wait_for("under Bulkhead");
    let block = Block::of(stage.name());
    block.snapshot(Path::new(&stage.path("top.qcow2"))).expect("a layer");
    let write = |linux: &mut Linux, words: &str| {
        linux.say(&format!(
            "echo {words} | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync && echo wrote$((0)){words}"
        ));
        linux.wait_for(&format!("wrote0{words}"));
    };
    write(&mut linux, "monday");
    let snapshot = ["block", "internal-snapshot", "create", stage.name(), "d0", "s"];
    assert!(stage.command(&snapshot).status.success());
    write(&mut linux, "tuesday");
    let apply = ["block", "internal-snapshot", "apply", stage.name(), "d0", "s"];
    refused(stage.command(&apply), &["d0", "guest uses", "pause it"]);
    assert!(stage.command(&["pause", stage.name()]).status.success());
    let output = stage.command(&apply);
    assert!(output.status.success(), "{output:?}");
    assert!(stage.command(&["resume", stage.name()]).status.success());
    // What it has in memory is of a disk that is no more.
    linux
        .say("echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 skip=8 count=1; echo; exit");
    linux.wait_for("monday");
    let (said, code) = linux.end();
    assert_eq!(code, Some(0), "{said}");
}
