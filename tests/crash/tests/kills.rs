//! R1: helpers are killed under verified I/O, and nothing is lost, stale or an error.

use std::time::Duration;

use bulkhead_crash::image::Image;
use bulkhead_crash::killer::{Victim, kill};
use bulkhead_crash::pauses::Pauses;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};

/// Milliseconds by which the block layer delays each request, so that every kill finds all of them in
/// flight and a stale one has time to land on a newer.
const DELAY: u64 = 200;

fn play(name: &str, image: Image, disk: &str, victim: Victim, settle: Duration) {
    let scene = Scene::begin(image, disk);
    let wanted = bulkhead_crash::kills();
    let mut pauses = Pauses::default();
    let dead = kill(scene.storage(), scene.shared(), victim, wanted, &mut pauses);
    scene.end(settle);
    assert!(dead >= wanted, "{dead} of {wanted} kills");
    pauses.print(name);
}

fn in_memory(name: &str, victim: Victim) {
    play(name, Image::in_memory(IMAGE_BLOCKS), "", victim, Duration::ZERO);
}

fn on_disk(name: &str, victim: Victim) {
    play(name, Image::on_disk(IMAGE_BLOCKS), ",cache=none", victim, Duration::ZERO);
}

fn delayed(name: &str, victim: Victim) {
    let settle = Duration::from_millis(2 * DELAY);
    let disk = format!(",delay={DELAY}");
    play(name, Image::in_memory(IMAGE_BLOCKS), &disk, victim, settle);
}

#[test]
fn vhost_blk_dies_in_memory() {
    in_memory("vhost-blk, tmpfs", Victim::VhostBlk);
}

#[test]
fn block_layer_dies_in_memory() {
    in_memory("block-layer, tmpfs", Victim::BlockLayer);
}

#[test]
fn both_die_in_memory() {
    in_memory("both, tmpfs", Victim::Both);
}

#[test]
fn they_die_in_rapid_succession_in_memory() {
    in_memory("rapid, tmpfs", Victim::Rapid);
}

#[test]
fn vhost_blk_dies_on_disk() {
    on_disk("vhost-blk, disk, cache=none", Victim::VhostBlk);
}

#[test]
fn block_layer_dies_on_disk() {
    on_disk("block-layer, disk, cache=none", Victim::BlockLayer);
}

#[test]
fn both_die_on_disk() {
    on_disk("both, disk, cache=none", Victim::Both);
}

#[test]
fn block_layer_dies_while_the_kernel_transfers() {
    let disk = ",cache=none,aio=native";
    let image = Image::on_disk(IMAGE_BLOCKS);
    play("block-layer, disk, aio=native", image, disk, Victim::BlockLayer, Duration::ZERO);
}

#[test]
fn they_die_in_rapid_succession_while_the_kernel_transfers() {
    let disk = ",cache=none,aio=native";
    let image = Image::on_disk(IMAGE_BLOCKS);
    play("rapid, disk, aio=native", image, disk, Victim::Rapid, Duration::ZERO);
}

#[test]
fn they_die_in_rapid_succession_on_disk() {
    on_disk("rapid, disk, cache=none", Victim::Rapid);
}

#[test]
fn vhost_blk_dies_with_everything_in_flight() {
    delayed("vhost-blk, delayed", Victim::VhostBlk);
}

#[test]
fn block_layer_dies_with_everything_in_flight() {
    delayed("block-layer, delayed", Victim::BlockLayer);
}

#[test]
fn both_die_with_everything_in_flight() {
    delayed("both, delayed", Victim::Both);
}

#[test]
fn they_die_in_rapid_succession_with_everything_in_flight() {
    delayed("rapid, delayed", Victim::Rapid);
}

fn on_qcow2(name: &str, folder: &str, disk: &str, victim: Victim) {
    match Image::qcow2(std::path::Path::new(folder), IMAGE_BLOCKS) {
        Some(image) => play(name, image, disk, victim, Duration::ZERO),
        None => eprintln!("skipped: there is no qemu-img"),
    }
}

#[test]
fn block_layer_dies_with_a_qcow2_chain_in_memory() {
    on_qcow2("block-layer, qcow2, tmpfs", "/dev/shm", "", Victim::BlockLayer);
}

#[test]
fn they_die_in_rapid_succession_with_a_qcow2_chain_on_disk() {
    let folder = env!("CARGO_MANIFEST_DIR");
    on_qcow2("rapid, qcow2, disk, cache=none", folder, ",cache=none", Victim::Rapid);
}
