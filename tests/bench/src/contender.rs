//! The two sides of a row: somebody else's backend and ours, each with an image of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_harness::storage::{Options, Storage};
use tempfile::{NamedTempFile, TempDir};

use crate::usage;

/// Bytes of an image.
pub const SIZE: u64 = 1 << 30;

/// An image full of data: holes read faster than anything.
pub fn image(folder: &Path) -> Result<NamedTempFile> {
    let file = NamedTempFile::new_in(folder)?;
    let block = vec![0xa5; 1 << 20];
    for _ in 0..SIZE >> 20 {
        std::io::Write::write_all(&mut file.as_file(), &block)?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// What a side serves.
#[derive(Debug, Clone, Copy)]
pub struct Disk<'a> {
    image: &'a Path,
    format: &'static str,
    direct: bool,
    native: bool,
}

impl<'a> Disk<'a> {
    /// An image that is the disk as it is; `direct`: past the page cache.
    pub fn raw(image: &'a Path, direct: bool) -> Self {
        Self { image, format: "raw", direct, native: false }
    }

    /// A qcow2 image.
    pub fn qcow2(image: &'a Path, direct: bool) -> Self {
        Self { image, format: "qcow2", direct, native: false }
    }

    /// The same past the page cache, with Linux AIO on our side too.
    pub fn native(self) -> Self {
        Self { direct: true, native: true, ..self }
    }
}

/// A side.
#[derive(Debug)]
pub enum Contender {
    /// qemu-storage-daemon.
    Peer(Peer),
    /// `bulkhead storage`.
    Ours(Storage),
}

impl Contender {
    /// Ours, on these CPUs.
    pub fn ours(disk: &Disk<'_>, queues: u16, cpus: &str) -> Self {
        let cache = match (disk.direct, disk.native) {
            (true, true) => ",cache=none,aio=native",
            (true, false) => ",cache=none",
            (false, _) => "",
        };
        let keys = format!(",format={}{cache}", disk.format);
        let options = Options::new(disk.image, queues).disk(&keys).cpus(cpus);
        Self::Ours(Storage::start(&options))
    }

    /// The peer, on these CPUs.
    pub fn peer(disk: &Disk<'_>, queues: u16, cpus: &str) -> Result<Self> {
        Ok(Self::Peer(Peer::start(disk, queues, cpus)?))
    }

    /// Where its socket is.
    pub fn socket(&self) -> &Path {
        match self {
            Self::Peer(peer) => &peer.socket,
            Self::Ours(storage) => storage.socket(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Peer(peer) => vec![peer.child.id()],
            Self::Ours(storage) => {
                let processes = storage.processes().into_iter();
                processes.filter_map(|process| u32::try_from(process.pid).ok()).collect()
            }
        }
    }

    /// KiB of memory (PSS) of our process of that class.
    pub fn memory(&self, role: &str) -> Option<u64> {
        match self {
            Self::Peer(_) => None,
            Self::Ours(storage) => storage.process(role).pss_kib,
        }
    }

    /// CPU time of all its processes.
    pub fn cpu_time(&self) -> Duration {
        usage::cpu_time(&self.pids())
    }
}

/// A qemu-storage-daemon with one image; killed on drop.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Peer {
    fn start(disk: &Disk<'_>, queues: u16, cpus: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("peer.sock");
        let cache = if disk.direct { "cache.direct=on,aio=native," } else { "" };
        let file = format!("file,node-name=file,{cache}filename={}", disk.image.display());
        // A raw node on top would only cost it time.
        let (file, format) = match disk.format {
            "raw" => (file.replace("node-name=file", "node-name=d0"), None),
            format => (file, Some(format!("{format},node-name=d0,file=file"))),
        };
        let export = format!(
            "vhost-user-blk,id=e0,node-name=d0,writable=on,num-queues={queues},addr.type=unix,addr.path={}",
            socket.display()
        );
        let mut command = Command::new("taskset");
        command.args(["-c", cpus, "qemu-storage-daemon", "--blockdev", &file]);
        command.args(format.iter().flat_map(|format| ["--blockdev", format]));
        command.args(["--export", &export]);
        let child = command.stdin(Stdio::null()).spawn().context("taskset")?;
        let peer = Self { child, socket, _folder: folder };
        let start = Instant::now();
        while !peer.socket.exists() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("qemu-storage-daemon does not start; is it installed?");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
