//! Incremental backups by bitmaps that the image keeps: each brings a copy up to date, one that dies leaves the bitmap
//! as if there had been none, and no write is ever missing from the next.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bulkhead_crash::image::Image;
use bulkhead_crash::pages::{PAGE, Pages, check};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Pages of the disk.
const PAGES: u64 = 512;

struct Scene {
    pages: Pages,
    image: Image,
    folder: TempDir,
    /// What each page is full of.
    bytes: Vec<u8>,
}

impl Scene {
    /// A disk of ones with the bitmap `kept` in its image, and the copy of a full backup that began it.
    fn begin() -> Option<Self> {
        let image = Image::qcow2(Path::new("/dev/shm"), PAGES);
        let Some(image) = image else {
            eprintln!("skipped: there is no qemu-img");
            return None;
        };
        let mut pages = Pages::serve(image.path(), &image.keys());
        pages.fill(0..PAGES, 1);
        let folder = TempDir::new_in("/dev/shm").expect("a folder");
        let scene = Self { pages, image, folder, bytes: vec![1; PAGES as usize] };
        scene.run(&["bitmap", "add"], &["d0", "kept", "--persistent", "--granularity", "4K"]);
        scene.backup(&["--sync", "full"], false).expect("a full backup");
        Some(scene)
    }

    fn run(&self, verb: &[&str], arguments: &[&str]) {
        self.pages.block().insist(verb, arguments).unwrap_or_else(|why| panic!("{verb:?}: {why}"));
    }

    fn copy(&self) -> PathBuf {
        self.folder.path().join("copy.raw")
    }

    fn fill(&mut self, pages: std::ops::Range<u64>, byte: u8) {
        self.pages.fill(pages.clone(), byte);
        self.bytes[pages.start as usize..pages.end as usize].fill(byte);
    }

    /// Starts a backup into the copy.
    fn start(&self, how: &[&str], existing: bool) {
        let existing = if existing { ",existing" } else { "" };
        let target = format!("path={},format=raw{existing}", self.copy().display());
        self.run(&["backup"], &[&["d0", "--target", &target, "--keep"], how].concat());
    }

    /// A whole one.
    fn backup(&self, how: &[&str], existing: bool) -> Result<(), String> {
        self.start(how, existing);
        self.pages.block().finish("backup-d0")
    }

    fn incremental(&self) -> Result<(), String> {
        self.backup(&["--sync", "incremental", "--bitmap", "kept"], true)
    }

    /// Dirty bytes of a bitmap.
    fn dirty(&self, bitmap: &str) -> u64 {
        self.bitmap(bitmap)["dirty"].as_u64().expect("bytes")
    }

    fn bitmap(&self, bitmap: &str) -> serde_json::Value {
        let text = self.pages.block().run(&["query"], &["--json"]).expect("a query");
        let disks: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let bitmaps = disks[0]["bitmaps"].as_array().expect("bitmaps");
        let found = bitmaps.iter().find(|found| found["name"] == bitmap);
        found.unwrap_or_else(|| panic!("no {bitmap} in {text}")).clone()
    }

    fn judge(&self) {
        let copy = File::open(self.copy()).expect("the copy");
        for (page, byte) in self.bytes.iter().enumerate() {
            let mut found = vec![!byte; PAGE as usize];
            copy.read_exact_at(&mut found, page as u64 * PAGE).expect("a page");
            assert!(found.iter().all(|found| found == byte), "page {page} of the copy");
        }
    }
}

#[test]
fn each_backup_brings_the_copy_up_to_date() {
    let Some(mut scene) = Scene::begin() else { return };
    // A full backup leaves a bitmap alone.
    assert_eq!(scene.dirty("kept"), 0);
    for round in 2..8u8 {
        let from = u64::from(round) * 40;
        scene.fill(from..from + 17, round);
        assert_eq!(scene.dirty("kept"), 17 * PAGE);
        if round % 2 == 0 {
            scene.pages.storage().process("block-layer").signal(Signal::SIGKILL);
        }
        scene.incremental().expect("an incremental backup");
        assert_eq!(scene.dirty("kept"), 0, "a backup that succeeds begins it anew");
        scene.judge();
    }
    drop(scene.pages);
    check(scene.image.path());
}

#[test]
fn a_backup_that_does_not_end_well_leaves_the_bitmap_with_what_was_written_meanwhile() {
    let Some(mut scene) = Scene::begin() else { return };
    // Far enough from each other to be copied one by one: at that speed it takes many seconds.
    (0..PAGES).step_by(32).for_each(|page| scene.fill(page..page + 1, 2));
    let slow = ["--sync", "incremental", "--bitmap", "kept", "--speed", "64K"];
    scene.start(&slow, true);
    scene.fill(101..111, 3);
    let block = scene.pages.block();
    for (verb, arguments) in [
        (["bitmap", "clear"], ["d0", "kept"]),
        (["bitmap", "disable"], ["d0", "kept"]),
        (["bitmap", "remove"], ["d0", "kept"]),
    ] {
        let complaint = block.run(&verb, &arguments).expect_err("a bitmap that a job uses");
        assert!(complaint.contains("a job uses the bitmap 'kept'"), "{complaint}");
    }
    let overlay = format!("d0,path={}", scene.folder.path().join("overlay").display());
    let complaint = block.run(&["snapshot"], &["--disk", &overlay]).expect_err("a job uses it");
    assert!(complaint.contains("bitmap 'kept'"), "{complaint}");
    block.run(&["job", "cancel"], &["backup-d0"]).expect("its end");
    assert!(block.finish("backup-d0").expect_err("it was cancelled").contains("cancelled"));
    assert_eq!(scene.dirty("kept"), 26 * PAGE);
    // The same by a death: what the journal and the file say is all of it.
    scene.start(&slow, true);
    scene.fill(201..206, 4);
    scene.pages.storage().process("block-layer").signal(Signal::SIGKILL);
    scene.fill(206..211, 4);
    assert!(block.finish("backup-d0").expect_err("it died").contains("died"));
    assert!(scene.dirty("kept") >= 36 * PAGE, "{}", scene.dirty("kept"));
    // And by one that died before it was told of its success: nothing is missing.
    scene.incremental().expect("the next one");
    scene.judge();
    scene.fill(300..301, 5);
    scene.pages.storage().process("block-layer").signal(Signal::SIGKILL);
    scene.incremental().expect("and one after it");
    scene.judge();
}

#[test]
fn bitmaps_of_both_kinds_are_merged_and_stand_in_for_each_other() {
    let Some(mut scene) = Scene::begin() else { return };
    scene.run(&["bitmap", "add"], &["d0", "memory", "--granularity", "64K"]);
    scene.run(&["bitmap", "disable"], &["d0", "kept"]);
    scene.fill(0..3, 2);
    assert_eq!((scene.dirty("kept"), scene.dirty("memory")), (0, 65536));
    scene.run(&["bitmap", "enable"], &["d0", "kept"]);
    scene.run(&["bitmap", "disable"], &["d0", "memory"]);
    scene.fill(100..101, 3);
    assert_eq!((scene.dirty("kept"), scene.dirty("memory")), (PAGE, 65536));
    scene.run(&["bitmap", "merge"], &["d0", "kept", "memory"]);
    assert_eq!(scene.dirty("kept"), PAGE + 65536);
    scene.run(&["bitmap", "merge"], &["d0", "memory", "kept"]);
    assert_eq!(scene.dirty("memory"), 2 * 65536);
    // One that only reads it leaves it as it is.
    scene.backup(&["--sync", "bitmap", "--bitmap", "kept"], true).expect("a backup");
    scene.judge();
    assert_eq!(scene.dirty("kept"), PAGE + 65536);
    scene.fill(101..102, 4);
    scene.incremental().expect("an incremental backup");
    scene.judge();
    assert_eq!(scene.dirty("kept"), 0);
    assert_eq!(scene.bitmap("kept")["persistent"], true);
}
