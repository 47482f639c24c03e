//! A board with one disk, a driver that does the least a driver can do, and somebody else's daemon.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_hypervisor::Vm;
use bulkhead_hypervisor::recorder::Recorder;
use bulkhead_machine::pci::{BarIndex, PciDevice};
use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights, WrittenPages};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Interest, Poller};
use bulkhead_sys::seqpacket::stream_pair;
use bulkhead_vhost_frontend::{
    Connection, Patience, Plan, Report, SharedRam, VhostDevice, WrittenLog,
};
use bulkhead_virtio_transport::{DeviceType, QueueBells};

pub const SIZE: u64 = 1 << 20;
const RAM: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(20);

const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const STATUS: u64 = 0x4800;
const DATA: u64 = 0x8000;

pub struct Board {
    device: VhostDevice,
    memory: GuestMemory,
    written: WrittenPages,
    pub engine: Arc<Recorder>,
    bells: QueueBells,
    next: u16,
    pub image: File,
    folder: tempfile::TempDir,
    peer: Peer,
    daemon: Option<Child>,
}

/// Whose backend serves the disk.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    /// QEMU's, a program of its own.
    StorageDaemon,
    /// rust-vmm's, a crate; the program around it is ours (`src/bin/disk.rs`).
    RustVmm,
}

impl Peer {
    /// Whether it can be started here; says so if not.
    fn is_here(self) -> bool {
        let Self::StorageDaemon = self else { return true };
        let asked =
            Command::new("qemu-storage-daemon").arg("--version").stdout(Stdio::null()).status();
        let here = asked.is_ok_and(|status| status.success());
        if !here {
            eprintln!("skipped: qemu-storage-daemon is not installed");
        }
        here
    }

    /// Serves `image` at `socket`.
    fn start(self, image: &Path, socket: &Path) -> Child {
        let mut command = match self {
            Self::StorageDaemon => {
                let mut command = Command::new("qemu-storage-daemon");
                let blockdev = format!("file,node-name=d0,filename={}", image.display());
                let export = format!(
                    "vhost-user-blk,id=e0,node-name=d0,writable=on,addr.type=unix,addr.path={}",
                    socket.display()
                );
                command.args(["--blockdev", &blockdev, "--export", &export]);
                command
            }
            Self::RustVmm => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-interop-disk"));
                command.args([socket, image]);
                command
            }
        };
        command.stdin(Stdio::null()).spawn().unwrap()
    }
}

impl Board {
    /// A board and the peer's daemon, running; `None` if it is not installed.
    pub fn new(peer: Peer) -> Option<Self> {
        if !peer.is_here() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let image = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        image.set_len(SIZE).unwrap();
        let layout = RamLayout::new(RAM).unwrap();
        let fd = bulkhead_sys::memfd::create_sealed("ram", RAM).unwrap();
        let memory = Grant::whole(&layout, Rights::ReadWrite).map(&fd).unwrap();
        let bell = || Arc::new(Doorbell::new().unwrap());
        let bells = QueueBells { kick: bell(), call: bell() };
        let plan = Plan {
            queues: 1,
            queue_size: 128,
            device: DeviceType::BLK,
            patience: Patience::default(),
        };
        let len = WrittenPages::len_of(&layout);
        let log = bulkhead_sys::memfd::create_sealed("written", len).unwrap();
        let written = WrittenPages::map(&log, 0, len).unwrap();
        let log = Some(WrittenLog { fd: Arc::new(log), len });
        let ram = SharedRam { fd: Arc::new(fd), memory: memory.clone(), written: log };
        let engine = Recorder::new();
        let vm = Arc::clone(&engine) as Arc<dyn Vm>;
        let device =
            VhostDevice::new(plan, vm, ram, vec![bells.clone()], None, Arc::new(|| {})).unwrap();
        let mut board = Self {
            device,
            memory,
            written,
            engine,
            bells,
            next: 0,
            image,
            folder,
            peer,
            daemon: None,
        };
        board.start_daemon();
        Some(board)
    }

    pub fn start_daemon(&mut self) {
        let folder = self.folder.path();
        self.daemon = Some(self.peer.start(&folder.join("image"), &folder.join("socket")));
    }

    pub fn kill_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = daemon.kill();
        let _ = daemon.wait();
        let _ = std::fs::remove_file(self.folder.path().join("socket"));
    }

    /// Connects to the daemon, as the supervisor does.
    pub fn connect(&mut self) {
        let end = Instant::now() + SOON;
        let stream = loop {
            match UnixStream::connect(self.folder.path().join("socket")) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let requests = stream_pair().unwrap();
        let connection = Connection { socket: OwnedFd::from(stream), requests: Some(requests) };
        self.device.connect(connection, Instant::now());
    }

    /// The event loop, until `done` is satisfied by a report or by the state after an advance.
    fn run_until<T>(&mut self, mut done: impl FnMut(&mut Self, Option<Report>) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            let now = Instant::now();
            assert!(now < end, "nothing happens");
            let report = self.device.advance(now);
            let reported = report.is_some();
            if let Some(result) = done(self, report) {
                return result;
            }
            if reported {
                continue;
            }
            let poller = Poller::new().unwrap();
            for socket in self.device.sockets() {
                poller.add(socket, 0, Interest::Read).unwrap();
            }
            let left = self.device.deadline().unwrap_or(end).saturating_duration_since(now);
            poller.wait(Some(left.min(Duration::from_millis(50))), &mut Vec::new()).unwrap();
        }
    }

    pub fn advance_until_report(&mut self) -> Report {
        self.run_until(|_, report| report)
    }

    pub fn read<const N: usize>(&self, offset: u64) -> u64 {
        let mut data = [0; N];
        self.device.function().bar_read(BarIndex::Zero, offset, &mut data);
        data.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn write<const N: usize>(&self, offset: u64, value: u64) {
        self.device.function().bar_write(BarIndex::Zero, offset, &value.to_le_bytes()[..N]);
    }

    pub fn status(&self) -> u64 {
        self.read::<1>(0x14)
    }

    /// Resets the device and waits as drivers do. Returns what was reported meanwhile.
    pub fn reset(&mut self) -> Vec<Report> {
        self.write::<1>(0x14, 0);
        let mut reports = Vec::new();
        self.run_until(|board, report| {
            let quiet = report.is_none();
            reports.extend(report);
            (quiet && board.status() == 0).then_some(())
        });
        reports
    }

    /// Sets the device up with everything it offers, and one queue.
    pub fn probe(&mut self) {
        self.memory.check(GuestRange::new(0, RAM)).unwrap().zero().unwrap();
        self.next = 0;
        self.write::<1>(0x14, 3);
        for half in [0, 1] {
            self.write::<4>(0, half);
            self.write::<4>(8, half);
            self.write::<4>(12, self.read::<4>(4));
        }
        self.write::<1>(0x14, 11);
        self.write::<2>(0x18, 8);
        for (register, address) in [(0x20, DESCRIPTORS), (0x28, AVAILABLE), (0x30, USED)] {
            self.write::<8>(register, address);
        }
        self.write::<2>(0x1c, 1);
        self.write::<1>(0x14, 15);
        assert_eq!((self.status(), self.read::<2>(0x1c)), (15, 1));
    }

    fn put(&self, addr: u64, bytes: &[u8]) {
        let range = GuestRange::new(addr, bytes.len() as u64);
        self.memory.check(range).unwrap().copy_out(bytes).unwrap();
    }

    fn get<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.check(GuestRange::new(addr, N as u64)).unwrap().copy_in(&mut bytes).unwrap();
        bytes
    }

    fn descriptor(&self, index: u16, addr: u64, len: u32, flags: u16) {
        let next = index + 1;
        let bytes = [
            &addr.to_le_bytes()[..],
            &len.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ];
        self.put(DESCRIPTORS + 16 * u64::from(index), &bytes.concat());
    }

    /// One request of 4096 bytes, kicked and waited for.
    fn request(&mut self, kind: u32, sector: u64, device_writes: u16) {
        self.put(HEADER, &[u64::from(kind).to_le_bytes(), sector.to_le_bytes()].concat());
        self.put(STATUS, &[0xff]);
        self.descriptor(0, HEADER, 16, 1);
        self.descriptor(1, DATA, 4096, 1 | device_writes);
        self.descriptor(2, STATUS, 1, 2);
        self.put(AVAILABLE + 4 + 2 * u64::from(self.next % 8), &0u16.to_le_bytes());
        // The event index: a call for the very next completion.
        self.put(AVAILABLE + 4 + 2 * 8, &self.next.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        let next = self.next;
        let index = self.memory.check(GuestRange::new(AVAILABLE + 2, 2)).unwrap();
        index.store_u16(0, next, Ordering::Release).unwrap();
        self.write::<2>(0x3000, 0);
        self.run_until(|board, _| {
            let used = board.memory.check(GuestRange::new(USED + 2, 2)).unwrap();
            let complete = used.load_u16(0, Ordering::Acquire).unwrap() == next;
            (complete && board.bells.call.clear()).then_some(())
        });
        assert_eq!(self.get::<1>(STATUS), [0]);
    }

    pub fn read_disk(&mut self, sector: u64) -> [u8; 4096] {
        self.put(DATA, &[0xee; 4096]);
        self.request(0, sector, 2);
        self.get(DATA)
    }

    /// The pages that the daemon has marked as written, of those with the used ring and the data.
    pub fn marked(&self) -> [bool; 2] {
        [USED, DATA].map(|addr| self.written.take_page(addr))
    }

    pub fn write_disk(&mut self, sector: u64, data: &[u8]) {
        self.put(DATA, data);
        self.request(1, sector, 0);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill_daemon();
    }
}
