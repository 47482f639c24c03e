//! QEMU, under TCG, boots from a disk that `bulkhead storage` serves; the storage survives QEMU's
//! death and serves the next one.

mod machine;

use bulkhead_harness::storage::{Options, Storage};
use machine::{Machine, Stage};
use nix::sys::signal::Signal;

#[test]
fn qemu_boots_from_our_disk_again_and_again() {
    let stage = Stage::new("echo root is mounted; sync; sleep 600");
    let storage = Storage::start(&Options::new(&stage.root_image(), 1));

    let mut first = Machine::boot(&stage, storage.socket());
    first.wait_for_line("root is mounted");
    first.kill();

    let mut second = Machine::boot(&stage, storage.socket());
    second.wait_for_line("root is mounted");
    second.kill();
    assert!(storage.end().success(), "the storage ends as it should");
}

#[test]
fn a_guest_of_qemu_writes_through_the_death_of_both_processes() {
    let script = "i=0; echo writing; while [ $i -lt 40 ]; do \
        dd if=/dev/urandom of=/data bs=64k count=16 conv=fsync 2>/dev/null || echo write failed; \
        sha256sum /data > /data.sum; sync; echo 3 > /proc/sys/vm/drop_caches; \
        sha256sum -c -s /data.sum || echo data is damaged; i=$((i+1)); done; \
        dmesg | grep -E 'I/O error|EXT4-fs error' && echo the kernel complained; \
        echo all is written; mount -o remount,ro /; poweroff -f";
    let stage = Stage::new(script);
    let image = stage.root_image();
    let storage = Storage::start(&Options::new(&image, 1));
    let mut machine = Machine::boot(&stage, storage.socket());
    machine.wait_for_line("writing");
    // The block layer alone: the frontend sees latency.
    for kills in 1..=3 {
        let victim = storage.process("block-layer");
        assert!(victim.signal(Signal::SIGKILL));
        storage.wait_for_restart("block-layer", kills);
    }
    // vhost-blk: QEMU sees a hang-up and connects again.
    for kills in 1..=3 {
        let victim = storage.process("vhost-blk");
        assert!(victim.signal(Signal::SIGKILL));
        storage.wait_for_restart("vhost-blk", kills);
    }
    let said = machine.wait_for_line("all is written");
    machine.wait_for_end();
    for complaint in ["write failed", "data is damaged", "the kernel complained"] {
        assert!(!said.iter().any(|line| line.contains(complaint)), "{complaint}: {said:#?}");
    }
    assert!(storage.end().success(), "the storage ends as it should");
    machine::check_file_system(&image);
}
