//! Back to an internal snapshot while the block layer dies: the disk goes back once, and whoever is answered that it
//! has reads what was there.

use std::path::Path;
use std::time::Duration;

use bulkhead_crash::graph::Killing;
use bulkhead_crash::image::Image;
use bulkhead_crash::pages::{Pages, check};

/// Pages of the disk that are written.
const PAGES: u64 = 256;

/// Longest time between two kills.
const MOMENT: Duration = Duration::from_millis(60);

fn image() -> Option<Image> {
    let image = Image::qcow2(Path::new("/dev/shm"), PAGES);
    if image.is_none() {
        eprintln!("skipped: there is no qemu-img");
    }
    image
}

fn apply(pages: &Pages, snapshot: &str) {
    loop {
        match pages.block().run(&["internal-snapshot", "apply"], &["d0", snapshot]) {
            Ok(_) => return,
            Err(complaint) => assert!(complaint.contains("being replaced"), "{complaint}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn block_layer_dies_while_a_disk_goes_back() {
    let Some(image) = image() else { return };
    let mut pages = Pages::serve(image.path(), &image.keys());
    let rounds = (bulkhead_crash::kills() / 5).max(4);
    let mut kills = 0;
    for round in 0..rounds {
        let byte = (round % 100) as u8 * 2 + 1;
        pages.fill(0..PAGES, byte);
        pages.block().insist(&["internal-snapshot", "create"], &["d0", "s"]).expect("a snapshot");
        pages.fill(0..PAGES, byte + 1);
        let killing = Killing::begin(pages.storage().name(), MOMENT * (round as u32 % 8 + 1) / 8);
        apply(&pages, "s");
        // What is written from here on nobody takes back.
        pages.fill(0..4, byte + 1);
        kills += killing.end();
        pages.storage().wait_for_restart("block-layer", 0);
        pages.expect(0..4, byte + 1);
        pages.expect(4..PAGES, byte);
        pages.block().insist(&["internal-snapshot", "delete"], &["d0", "s"]).expect("its end");
    }
    println!("{rounds} rounds, {kills} kills");
    assert!(kills > 0);
    drop(pages);
    check(image.path());
}

#[test]
fn what_forbids_it_is_named() {
    let Some(image) = image() else { return };
    let mut pages = Pages::serve(image.path(), &image.keys());
    let (block, apply) = (pages.block(), ["internal-snapshot", "apply"]);
    pages.fill(0..4, 1);
    block.run(&["internal-snapshot", "create"], &["d0", "s"]).expect("a snapshot");
    let refused = |arguments: &[&str], words: &str| {
        let complaint = block.run(&apply, arguments).expect_err(words);
        assert!(complaint.contains(words), "{complaint}");
    };
    refused(&["d0", "t"], "no snapshot 't'");
    block.run(&["bitmap", "add"], &["d0", "daily"]).expect("a bitmap");
    refused(&["d0", "s"], "bitmap 'daily'");
    block.run(&["bitmap", "remove"], &["d0", "daily"]).expect("its end");
    let folder = tempfile::tempdir().expect("a folder");
    let target = format!("path={},format=raw", folder.path().join("copy").display());
    block.run(&["backup"], &["d0", "--target", &target, "--speed", "4K"]).expect("a backup");
    refused(&["d0", "s"], "job");
    block.run(&["job", "cancel"], &["backup-d0"]).expect("its end");
    while !block.jobs().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    block.run(&["internal-snapshot", "goto"], &["d0", "s"]).expect("by its other name");
    let size = block.disk().size;
    block.run(&["resize"], &["d0", &(size + (1 << 20)).to_string()]).expect("more room");
    refused(&["d0", "s"], "bulkhead-img snapshot -a");
}
