//! R3: a stopped helper is found and replaced; a machine under load loses nobody.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_crash::image::Image;
use bulkhead_crash::killer::wait_for_progress;
use bulkhead_crash::pauses::Pauses;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};
use nix::sys::signal::Signal;

/// How long the machine is kept busy: many heartbeats.
const BUSY: Duration = Duration::from_secs(10);

fn stop(role: &str) {
    let scene = Scene::begin(Image::in_memory(IMAGE_BLOCKS), "");
    let mut pauses = Pauses::default();
    // A hang takes a second to be found: a tenth of the kills will do.
    for hang in 1..=bulkhead_crash::kills().div_ceil(10) {
        wait_for_progress(scene.shared(), 50);
        let start = Instant::now();
        assert!(scene.storage().process(role).signal(Signal::SIGSTOP));
        scene.storage().wait_for_restart(role, hang);
        pauses.add(start.elapsed());
        wait_for_progress(scene.shared(), 50);
    }
    scene.end(Duration::ZERO);
    pauses.print(&format!("{role}, stopped"));
}

#[test]
fn a_stopped_vhost_blk_is_replaced() {
    stop("vhost-blk");
}

#[test]
fn a_stopped_block_layer_is_replaced() {
    stop("block-layer");
}

#[test]
fn a_busy_machine_is_no_hang() {
    let scene = Scene::begin(Image::in_memory(IMAGE_BLOCKS), "");
    let busy =
        || Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
    let mut load: Vec<_> = (0..8).map(|_| busy().expect("sh")).collect();
    std::thread::sleep(BUSY);
    for process in &mut load {
        process.kill().expect("it runs");
        process.wait().expect("it was killed");
    }
    for process in scene.storage().processes() {
        assert_eq!(process.restarts, 0, "{process:?}");
    }
    scene.end(Duration::ZERO);
}
