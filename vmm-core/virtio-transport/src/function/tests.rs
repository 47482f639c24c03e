//! The function as a driver, a hostile guest and the event loop see it.

mod driver;
mod hostile;
mod lifecycle;
mod pci;

use bulkhead_hypervisor::recorder::Recorder;
use bulkhead_machine::bus::{Bus, BusRange};
use bulkhead_machine::pci::PciHost;
use bulkhead_machine::pci::host::{ECAM_LEN, Ecam};
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_sys::eventfd::Doorbell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use driver::*;

pub(super) const RAM: u64 = 1 << 20;
pub(super) const ECAM: u64 = 0xe000_0000;
pub(super) const BAR_ADDRESS: u64 = 0xc000_0000;

/// A disk with two queues, in slot 0 of a bus of its own, decoded.
pub(super) struct Board {
    pub vm: Arc<Recorder>,
    pub mmio: Arc<Bus>,
    pub host: Arc<PciHost>,
    pub disk: Arc<VirtioFunction>,
    pub bells: Vec<QueueBells>,
    pub attention: Arc<AtomicU32>,
}

pub(super) const OFFERED: u64 = 1 << 32 | 1 << 29 | 1 << 9 | 1 << 12;

impl Board {
    pub fn new() -> Self {
        let vm = Recorder::new();
        let layout = RamLayout::new(RAM).unwrap();
        let fd = bulkhead_sys::memfd::create_sealed("ram", RAM).unwrap();
        let memory = Grant::whole(&layout, Rights::ReadWrite).map(&fd).unwrap();
        let bell = || Arc::new(Doorbell::new().unwrap());
        let bells: Vec<_> = (0..2).map(|_| QueueBells { kick: bell(), call: bell() }).collect();
        let attention = Arc::new(AtomicU32::new(0));
        let rung = Arc::clone(&attention);
        let plan = VirtioPlan { device: DeviceType::BLK, queues: 2, queue_size: 256 };
        let ring = Arc::new(move || {
            rung.fetch_add(1, Ordering::Relaxed);
        });
        let disk = VirtioFunction::new(plan, vm.clone(), memory, bells.clone(), ring).unwrap();
        let mut config = [0; 60];
        config[0] = 77;
        disk.offer(OFFERED, &config);
        let mmio = Bus::new();
        let host = PciHost::new(mmio.clone(), BusRange::new(BAR_ADDRESS, 0x1000_0000).unwrap());
        host.plug(disk.clone()).unwrap();
        mmio.claim(BusRange::new(ECAM, ECAM_LEN).unwrap(), Arc::new(Ecam(host.clone()))).unwrap();
        let board = Self { vm, mmio, host, disk, bells, attention };
        board.decode();
        board
    }

    /// Memory decoding and bus mastering on.
    pub fn decode(&self) {
        self.mmio.write(ECAM + 4, &6u16.to_le_bytes());
    }

    pub fn rung(&self) -> u32 {
        self.attention.load(Ordering::Relaxed)
    }
}
