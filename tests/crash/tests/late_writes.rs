//! R2: a device so slow that a killed process leaves writes on their way. None may land after its
//! successor has begun.

use std::time::Duration;

use bulkhead_crash::image::Image;
use bulkhead_crash::killer::{Victim, kill};
use bulkhead_crash::pauses::Pauses;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};
use bulkhead_crash::throttle::Throttle;

/// Kills of each kind.
const KILLS: u64 = 20;

/// Writes that the device takes a second: the 32 in flight need half a second.
const PER_SECOND: u32 = 64;

/// Everything that could still be on its way has landed by then.
const SETTLE: Duration = Duration::from_secs(2);

fn play(name: &str, disk: &str, victim: Victim) {
    let Some(image) = Image::on_loop_device(IMAGE_BLOCKS) else {
        println!("skipped: no loop device for this user");
        return;
    };
    let Some(throttle) = Throttle::new(image.path(), PER_SECOND) else {
        println!("skipped: no blkio or io controller for this user");
        return;
    };
    let scene = Scene::begin(image, disk);
    let mut pauses = Pauses::default();
    let dead = kill(scene.storage(), scene.shared(), victim, KILLS, &mut pauses);
    scene.end(SETTLE);
    assert!(dead >= KILLS, "{dead} of {KILLS} kills");
    drop(throttle);
    pauses.print(name);
}

#[test]
fn no_write_of_a_dead_block_layer_lands_late() {
    play("block-layer, throttled", ",cache=none", Victim::BlockLayer);
}

#[test]
fn no_write_that_the_kernel_makes_for_a_dead_block_layer_lands_late() {
    play("block-layer, throttled, aio=native", ",cache=none,aio=native", Victim::BlockLayer);
}

#[test]
fn no_write_for_a_dead_vhost_blk_lands_late() {
    play("vhost-blk, throttled", ",cache=none", Victim::VhostBlk);
}
