//! Layers in the middle of a chain are committed while the disk is served and its block layer dies: the chain is the
//! old one or the new one, and the headers name what is below, so that QEMU reads it by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bulkhead_crash::graph::Killing;
use bulkhead_crash::image::Image;
use bulkhead_crash::pages::{PAGE, Pages, check};
use tempfile::TempDir;

/// Pages of the disk.
const PAGES: u64 = 512;

/// Pages that each layer has of its own.
const OWN: u64 = 64;

/// Longest time between two kills.
const MOMENT: Duration = Duration::from_millis(90);

struct Chain {
    pages: Pages,
    image: Image,
    folder: TempDir,
}

impl Chain {
    /// A raw base full of 1, and layers `1` to `layers` above it: layer `n` is full of `n + 1` in its own pages.
    fn of(layers: u64) -> Self {
        let image = Image::in_memory(PAGES);
        let mut pages = Pages::serve(image.path(), "");
        pages.fill(0..PAGES, 1);
        let folder = TempDir::new_in("/dev/shm").expect("a folder");
        let mut chain = Self { pages, image, folder };
        for layer in 1..=layers {
            chain.pages.block().snapshot(&chain.layer(layer)).expect("a layer");
            let from = (layer - 1) * OWN;
            chain.pages.fill(from..from + OWN, layer as u8 + 1);
        }
        chain
    }

    fn layer(&self, number: u64) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    fn commit(&self, top: u64, base: &Path, more: &[&str]) -> Result<(), String> {
        let (top, base) = (self.layer(top).display().to_string(), base.display().to_string());
        let arguments = [&["d0", "--top", &top, "--base", &base, "--keep"], more].concat();
        self.pages.block().insist(&["commit"], &arguments)?;
        self.pages.block().finish("commit-d0")
    }

    /// Each layer's pages are what they were, through whatever chain.
    fn verify(&mut self, layers: u64) {
        for layer in 1..=layers {
            let from = (layer - 1) * OWN;
            self.pages.expect(from..from + OWN, layer as u8 + 1);
        }
        self.pages.expect(layers * OWN..PAGES, 1);
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.pages.block().layers()
    }
}

/// What the header of an image names below it.
fn backing(image: &Path) -> String {
    let mut info = Command::new("qemu-img");
    let output = info.args(["info", "-U", "--output=json", "-f", "qcow2"]).arg(image).output();
    let output = output.expect("qemu-img starts").stdout;
    let info: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
    info["backing-filename"].as_str().expect("a backing file").to_owned()
}

fn has_qemu() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no qemu-img");
    }
    found
}

#[test]
fn layers_in_the_middle_are_committed_while_block_layer_dies() {
    if !has_qemu() {
        return;
    }
    let mut kills = 0;
    for round in 1..=(bulkhead_crash::kills() / 15).max(2) {
        let mut chain = Chain::of(5);
        let killing = Killing::begin(chain.pages.storage().name(), MOMENT * round as u32 / 2);
        // 5 → 4 → 3 → 2 → 1 → base becomes 5 → 4 → 1 → base.
        chain.commit(3, &chain.layer(1), &[]).expect("a commit in the middle");
        kills += killing.end();
        let paths = [chain.layer(5), chain.layer(4), chain.layer(1), chain.image.path().into()];
        assert_eq!(chain.paths(), paths);
        chain.pages.storage().wait_for_restart("block-layer", 0);
        chain.verify(5);
        assert_eq!(Path::new(&backing(&chain.layer(4))), chain.layer(1));
        // What left the chain is nobody's any more, and what stayed is only read.
        check(&chain.layer(3));
        check(&chain.layer(4));
        // QEMU follows the names, and reads the same.
        let top = chain.layer(5);
        drop(chain.pages);
        let copy = chain.folder.path().join("copy");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "qcow2", "-O", "raw"]).args([&top, &copy]);
        assert!(convert.status().expect("qemu-img starts").success());
        let bytes = std::fs::read(&copy).expect("the copy");
        for (number, page) in bytes.chunks_exact(PAGE as usize).enumerate() {
            let own = number as u64 / OWN;
            let byte = if own < 5 { own as u8 + 2 } else { 1 };
            assert!(page.iter().all(|found| *found == byte), "page {number}");
        }
    }
    println!("{kills} kills");
    assert!(kills > 0);
}

#[test]
fn the_layer_above_names_the_base_as_it_is_told_to() {
    if !has_qemu() {
        return;
    }
    let mut chain = Chain::of(4);
    let image = chain.image.path().to_owned();
    let top = chain.layer(4).display().to_string();
    let named = ["--backing-file", "elsewhere/base.raw"];
    let refused = chain.commit(4, &image, &named).expect_err("nothing is above the top");
    assert!(refused.contains("--backing-file"), "{refused}");
    chain.commit(2, &image, &named).expect("a commit");
    assert_eq!(chain.paths(), [chain.layer(4), chain.layer(3), image.clone()]);
    assert_eq!(backing(&chain.layer(3)), "elsewhere/base.raw");
    chain.verify(4);
    // Once more, and over the same header.
    chain.pages.block().snapshot(&chain.layer(5)).expect("a layer");
    chain.commit(4, &chain.layer(3), &[]).expect("a commit below the top layer");
    assert_eq!(chain.paths(), [chain.layer(5), chain.layer(3), image.clone()]);
    chain.verify(4);
    // A layer above that another program writes cannot be named in.
    chain.pages.block().snapshot(&chain.layer(6)).expect("a layer");
    let base = image.display().to_string();
    let arguments = ["d0", "--base", &base, "--backing-file", "x"];
    assert!(chain.pages.block().run(&["commit"], &arguments).is_err(), "it goes with --top");
    drop(top);
}
