//! Graph changes under verified I/O, undisturbed and while the block layer dies at any moment of them.
//!
//! A kill finds a command before, in or behind its switch-over; afterwards the disk is the old one or the
//! new one, whole, and every acknowledged write is in it. QEMU reads it and finds no error and no leak.

use std::path::Path;
use std::time::Duration;

use bulkhead_crash::graph::{Change, Changing, Killing};
use bulkhead_crash::image::Image;
use bulkhead_crash::killer::wait_for_progress;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};
use bulkhead_crash::witness::Witness;

/// Longest time between two kills.
const MOMENT: Duration = Duration::from_millis(120);

fn memory() -> &'static Path {
    Path::new("/dev/shm")
}

fn has_qemu() -> bool {
    std::process::Command::new("qemu-img").arg("--version").output().is_ok()
}

/// Plays `rounds` of the changes; with kills if `killed`.
fn play(name: &str, changes: &[Change], rounds: u64, killed: bool, disk: &str) {
    if !has_qemu() {
        return eprintln!("skipped: there is no qemu-img");
    }
    let scene = Scene::begin(Image::in_memory(IMAGE_BLOCKS), disk);
    play_on(scene, name, changes, rounds, killed);
}

/// The same with an NBD client that verifies as well, and a frontend that resets and reconnects.
fn play_crowded(name: &str, changes: &[Change], killed: bool) {
    let folder = memory();
    let Some(image) = Image::qcow2(folder, IMAGE_BLOCKS) else {
        return eprintln!("skipped: there is no qemu-img");
    };
    play_on(Scene::begin_crowded(image, ""), name, changes, rounds(), killed);
}

fn play_on(scene: Scene, name: &str, changes: &[Change], rounds: u64, killed: bool) {
    let witness = Witness::of(scene.storage().name());
    let mut changing = Changing::of(&scene, memory());
    wait_for_progress(scene.shared(), 100);
    let killing = killed.then(|| Killing::begin(scene.storage().name(), MOMENT));
    for _ in 0..rounds {
        for change in changes {
            changing.make(*change);
            wait_for_progress(scene.shared(), 50);
        }
    }
    let kills = killing.map_or(0, Killing::end);
    scene.storage().wait_for_restart("block-layer", 0);
    println!("{name}: {rounds} rounds of {changes:?}, {kills} kills");
    assert_eq!(killed, kills > 0);
    changing.end(scene);
    let events = witness.end();
    let told = |what: &str| events.iter().filter(|event| event.contains(what)).count();
    let (died, hung) = (told("\"helper-died\""), told("\"helper-hung\""));
    println!("{name}: {died} deaths, {hung} of them for a heartbeat that was not answered");
    assert_eq!(told("\"security\":true"), 0, "a death by the filter");
}

fn rounds() -> u64 {
    (bulkhead_crash::kills() / 10).max(1)
}

#[test]
fn snapshots_are_committed_under_load() {
    play("commit", &[Change::Commit], rounds() * 4, false, "");
}

#[test]
fn snapshots_are_streamed_under_load() {
    play("stream", &[Change::Stream], rounds() * 2, false, "");
}

#[test]
fn a_disk_moves_to_its_mirror_under_load() {
    let changes = [Change::Mirror, Change::MirrorBlocking];
    play("mirror", &changes, rounds(), false, "");
}

#[test]
fn block_layer_dies_while_snapshots_are_committed() {
    play("commit, killed", &[Change::Commit], rounds(), true, "");
}

#[test]
fn block_layer_dies_while_snapshots_are_streamed() {
    play("stream, killed", &[Change::Stream], rounds(), true, "");
}

#[test]
fn block_layer_dies_while_a_disk_moves_to_its_mirror() {
    let changes = [Change::Mirror, Change::MirrorBlocking];
    play("mirror, killed", &changes, rounds(), true, "");
}

#[test]
fn block_layer_dies_in_drains_that_take_long() {
    play("delayed, killed", &[Change::Commit, Change::Mirror], 1, true, ",delay=20");
}

#[test]
fn snapshots_are_committed_between_resets_and_beside_an_nbd_client() {
    play_crowded("commit, crowded", &[Change::Commit], false);
}

#[test]
fn a_disk_moves_to_its_mirror_between_resets_and_beside_an_nbd_client() {
    let changes = [Change::Mirror, Change::MirrorRaw, Change::MirrorBlocking];
    play_crowded("mirror, crowded", &changes, false);
}

#[test]
fn snapshots_are_streamed_between_resets_and_beside_an_nbd_client() {
    play_crowded("stream, crowded", &[Change::Stream], false);
}

#[test]
fn block_layer_dies_while_a_backup_and_a_mirror_run() {
    play_crowded("backup and mirror, killed", &[Change::BackupAndMirror], true);
}
