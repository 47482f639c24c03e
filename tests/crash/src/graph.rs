//! Graph changes while a scene plays: what a user does to a disk, and what must be true afterwards.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bulkhead_harness::block::Block;
use bulkhead_harness::storage;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::image::{judge_bytes, qcow2_bytes};
use crate::scene::Scene;

/// What is done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A snapshot.
    Snapshot,
    /// A snapshot, and the commit of the new top into what was there before.
    Commit,
    /// Two snapshots, and the commit of the lower one.
    CommitBelow,
    /// A snapshot, and a stream that makes it stand alone.
    Stream,
    /// A mirror that takes the disk's place.
    Mirror,
    /// A mirror that every write reaches at once.
    MirrorBlocking,
    /// A mirror into a raw file.
    MirrorRaw,
    /// A backup.
    Backup,
    /// A backup, and meanwhile a mirror that takes the disk's place.
    BackupAndMirror,
}

/// A disk whose graph changes, and the folder of its files.
#[derive(Debug)]
pub struct Changing {
    block: Block,
    folder: TempDir,
    files: u64,
    /// Bytes of the disk: they stay.
    size: u64,
}

impl Changing {
    /// The disk of a scene. Its files come into `folder`.
    pub fn of(scene: &Scene, folder: &Path) -> Self {
        let folder = TempDir::new_in(folder).expect("a folder");
        let block = Block::of(scene.storage().name());
        let size = block.disk().size;
        Self { block, folder, files: 0, size }
    }

    /// The commands for it.
    pub fn block(&self) -> &Block {
        &self.block
    }

    fn file(&mut self, format: &str) -> PathBuf {
        self.files += 1;
        self.folder.path().join(format!("{}.{format}", self.files))
    }

    /// Makes a change, whoever dies meanwhile. Afterwards the disk consists of what was asked for, and
    /// files of commands that failed are gone.
    pub fn make(&mut self, change: Change) {
        let made = self.attempt(change);
        made.unwrap_or_else(|complaint| panic!("{change:?}: {complaint}"));
        assert_eq!(self.block.disk().size, self.size, "{change:?}: another size");
    }

    /// The same of one that may fail.
    pub fn attempt(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::Commit => self.commit(),
            Change::CommitBelow => self.commit_below(),
            Change::Snapshot => self.overlay().map(drop),
            Change::Stream => self.stream(),
            Change::Mirror => self.mirror("qcow2", &[]),
            Change::MirrorBlocking => self.mirror("qcow2", &["--copy-mode", "write-blocking"]),
            Change::MirrorRaw => self.mirror("raw", &[]),
            Change::Backup => self.backup(),
            Change::BackupAndMirror => self.backup_and_mirror(),
        }
    }

    /// After one that failed: no job is left, and few layers.
    pub fn restore(&mut self) {
        for job in self.block.jobs() {
            drop(self.block.insist(&["job", "cancel"], &[&job.job]));
            drop(self.block.finish(&job.job));
        }
        if self.block.layers().len() > 4 {
            self.block.insist(&["stream"], &["d0", "--keep"]).expect("a stream");
            self.block.finish("stream-d0").expect("its end");
        }
    }

    fn backup(&mut self) -> Result<(), String> {
        let (copy, target) = self.target("qcow2");
        self.block.insist(&["backup"], &["d0", "--target", &target, "--keep"])?;
        self.block.finish("backup-d0")?;
        drop(qcow2_bytes(&copy));
        Ok(())
    }

    fn overlay(&mut self) -> Result<(Vec<PathBuf>, PathBuf), String> {
        let before = self.block.layers();
        let file = self.file("qcow2");
        self.block.snapshot(&file)?;
        let after = self.block.layers();
        assert_eq!(after.first(), Some(&file), "the overlay is not the top");
        assert_eq!(after[1..], before[..], "the overlay lies on something else");
        Ok((before, file))
    }

    fn commit(&mut self) -> Result<(), String> {
        let (before, file) = self.overlay()?;
        let base = before.first().expect("a base").display().to_string();
        self.block.insist(&["commit"], &["d0", "--base", &base, "--keep"])?;
        self.block.finish("commit-d0")?;
        assert_eq!(self.block.layers(), before, "the commit left something");
        std::fs::remove_file(file).expect("the committed layer");
        Ok(())
    }

    fn commit_below(&mut self) -> Result<(), String> {
        let (before, middle) = self.overlay()?;
        let (_, file) = self.overlay()?;
        let base = before.first().expect("a base").display().to_string();
        let middle = middle.display().to_string();
        let arguments = ["d0", "--top", &middle, "--base", &base, "--keep"];
        self.block.insist(&["commit"], &arguments)?;
        self.block.finish("commit-d0")?;
        let left = [&[file][..], &before].concat();
        assert_eq!(self.block.layers(), left, "the commit left another chain");
        std::fs::remove_file(middle).expect("the committed layer");
        Ok(())
    }

    fn stream(&mut self) -> Result<(), String> {
        let (_, file) = self.overlay()?;
        self.block.insist(&["stream"], &["d0", "--keep"])?;
        self.block.finish("stream-d0")?;
        assert_eq!(self.block.layers(), [file], "the stream left something below");
        Ok(())
    }

    fn target(&mut self, format: &str) -> (PathBuf, String) {
        let file = self.file(format);
        let clusters = if format == "qcow2" { ",cluster-size=4096" } else { "" };
        let keys = format!("path={},format={format}{clusters}", file.display());
        (file, keys)
    }

    /// A mirror begins anew with every successor. A backup's moment is past then, and it says so.
    fn backup_and_mirror(&mut self) -> Result<(), String> {
        let (copy, target) = self.target("qcow2");
        // Slow enough to be there when somebody dies.
        let arguments = ["d0", "--target", &target, "--speed", "1M", "--keep"];
        self.block.insist(&["backup"], &arguments)?;
        self.mirror("qcow2", &[])?;
        match self.block.finish("backup-d0") {
            Ok(()) => drop(qcow2_bytes(&copy)),
            Err(complaint) => println!("backup: {complaint}"),
        }
        Ok(())
    }

    fn mirror(&mut self, format: &str, more: &[&str]) -> Result<(), String> {
        let (file, target) = self.target(format);
        let arguments = [&["d0", "--target", &target, "--keep"], more].concat();
        self.block.insist(&["mirror"], &arguments)?;
        self.block.finish("mirror-d0")?;
        assert_eq!(self.block.layers(), [file], "the disk did not go over to the mirror");
        Ok(())
    }

    /// Ends the scene, and judges the disk by QEMU's reading of its top layer.
    pub fn end(self, scene: Scene) {
        let top = self.block.layers().first().cloned().expect("a top layer");
        let begun_with = top == scene.image();
        let raw = top.extension().is_some_and(|format| format == "raw");
        scene.end_on(Duration::ZERO, |image, ledger| match (begun_with, raw) {
            (true, _) => image.judge(ledger),
            (false, true) => judge_bytes(&File::open(&top).expect("the disk"), ledger),
            (false, false) => judge_bytes(&qcow2_bytes(&top), ledger),
        });
    }
}

/// Kills the block layer of an instance again and again.
#[derive(Debug)]
pub struct Killing {
    stop: Arc<AtomicBool>,
    killer: JoinHandle<()>,
    kills: Arc<AtomicU64>,
}

impl Killing {
    /// Begins. Between two kills, moments that grow from nothing to `longest` and begin anew.
    pub fn begin(name: &str, longest: Duration) -> Self {
        let (stop, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, name) = (Arc::clone(&stop), Arc::clone(&kills), name.to_owned());
        let killer = thread::spawn(move || {
            let mut moment: u32 = 0;
            while !stopped.load(Ordering::Relaxed) {
                moment = moment * 5 % 997 + 1;
                thread::sleep(longest * moment / 997);
                let all = storage::processes(&name);
                let layer = all.iter().find(|process| process.role == "block-layer");
                if layer.is_some_and(|layer| layer.signal(Signal::SIGKILL)) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, killer, kills }
    }

    /// Ends; how many died.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.killer.join().expect("the killer");
        self.kills.load(Ordering::Relaxed)
    }
}
