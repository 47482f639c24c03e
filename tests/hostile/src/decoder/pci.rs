//! PCI configuration, BARs and the virtio registers behind them, under any access of any width.
//!
//! A disk of two queues on a bus of its own; a script makes accesses and plays core's part badly, too.
//! What comes out of it towards the backend keeps to what was offered and to guest memory.

use std::sync::Arc;

use bulkhead_hypervisor::recorder::Recorder;
use bulkhead_machine::bus::{Bus, BusRange};
use bulkhead_machine::pci::PciHost;
use bulkhead_machine::pci::host::{ConfigAddress, ConfigData, ConfigPorts, ECAM_LEN, Ecam};
use bulkhead_memory::GuestMemory;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_virtio_transport::{
    Activation, Demand, DeviceType, QueueBells, VirtioFunction, VirtioPlan,
};

use super::{Verdict, guest};
use crate::draw::Draw;

const ECAM: u64 = 0xe000_0000;
const BAR: u64 = 0xc000_0000;
const PORTS: u64 = 0xcf8;
const QUEUE_SIZE: u16 = 256;
const OFFERED: u64 = 1 << 32 | 1 << 29 | 1 << 9 | 1 << 12;

/// Accesses of one script.
const MOST_ACCESSES: usize = 400;

thread_local! {
    static MEMORY: GuestMemory = guest::ram(guest::RAM).0;
}

struct Board {
    mmio: Arc<Bus>,
    ports: Arc<Bus>,
    host: Arc<PciHost>,
    disk: Arc<VirtioFunction>,
}

impl Board {
    fn new() -> Self {
        let bell = || Arc::new(Doorbell::new().expect("an eventfd"));
        let bells = (0..2).map(|_| QueueBells { kick: bell(), call: bell() }).collect();
        let plan = VirtioPlan { device: DeviceType::BLK, queues: 2, queue_size: QUEUE_SIZE };
        let memory = MEMORY.with(GuestMemory::clone);
        let disk = VirtioFunction::new(plan, Recorder::new(), memory, bells, Arc::new(|| {}))
            .expect("a device");
        disk.offer(OFFERED, &[0; 60]);
        let (mmio, ports) = (Bus::new(), Bus::new());
        let host = PciHost::new(mmio.clone(), range(BAR, 0x1000_0000));
        host.plug(disk.clone()).expect("a free slot");
        let window = Arc::new(Ecam(host.clone()));
        mmio.claim(range(ECAM, ECAM_LEN), window).expect("a free range");
        let selected = Arc::new(ConfigPorts::default());
        let address = Arc::new(ConfigAddress(selected.clone()));
        ports.claim(range(PORTS, 4), address).expect("a free range");
        let data = Arc::new(ConfigData { ports: selected, host: host.clone() });
        ports.claim(range(PORTS + 4, 4), data).expect("a free range");
        let board = Self { mmio, ports, host, disk };
        board.mmio.write(ECAM + 4, &6u16.to_le_bytes());
        board
    }
}

/// Bus and host hold each other through the window, which a machine never takes away.
impl Drop for Board {
    fn drop(&mut self) {
        self.mmio.release(range(ECAM, ECAM_LEN));
    }
}

fn range(first: u64, len: u64) -> BusRange {
    BusRange::new(first, len).expect("a range")
}

/// Plays accesses. Accepted: the driver got as far as running a queue.
pub fn run(bytes: &[u8]) -> Verdict {
    let board = Board::new();
    let mut draw = Draw::new(bytes);
    let mut ran = false;
    for _ in 0..MOST_ACCESSES {
        if draw.is_over() {
            break;
        }
        act(&board, &mut draw);
        if let Some(Demand::Run(activation)) = board.disk.take_demand() {
            ran = true;
            judge(&activation);
        }
    }
    Verdict::accepted_if(ran)
}

fn act(board: &Board, draw: &mut Draw<'_>) {
    let act = draw.byte();
    if act >= 0xf0 {
        return core_part(board, act, draw);
    }
    let (bus, base, places) = match act % 4 {
        0 => (&board.mmio, BAR, 0x40),
        1 => (&board.mmio, BAR, 0x8008),
        2 => (&board.mmio, ECAM, 0x1100),
        _ => (&board.ports, PORTS, 8),
    };
    let address = base + u64::from(draw.below(places));
    let len = 1 + usize::from(act >> 3 & 7);
    let mut data = [0; 8];
    match act >> 2 & 1 {
        0 => {
            let script = draw.bytes(len);
            data[..script.len()].copy_from_slice(script);
            bus.write(address, &data[..len]);
        }
        _ => bus.read(address, &mut data[..len]),
    }
}

/// What core says to a device while the guest does what it likes.
fn core_part(board: &Board, act: u8, draw: &mut Draw<'_>) {
    match act & 3 {
        0 => board.disk.stopped(),
        1 => board.disk.config_changed(&[draw.byte(); 300]),
        2 => drop(board.disk.needs_reset()),
        _ => board.host.reset(),
    }
}

fn judge(activation: &Activation) {
    assert_eq!(activation.features & !OFFERED, 0, "features that were not offered");
    assert!(activation.features >> 32 & 1 == 1, "a legacy driver");
    for (queue, rings) in activation.enabled() {
        assert!(queue < 2 && rings.size.is_power_of_two() && rings.size <= QUEUE_SIZE);
        let size = u64::from(rings.size);
        assert!(rings.descriptors + 16 * size <= guest::RAM, "{rings:?}");
        assert!(rings.available + 6 + 2 * size <= guest::RAM, "{rings:?}");
        assert!(rings.used + 6 + 8 * size <= guest::RAM, "{rings:?}");
    }
}

/// A driver that does everything right, and one that looks around by the ports.
pub fn samples() -> Vec<Vec<u8>> {
    let write = |len: u8, offset: u16, value: u64| {
        let mut step = vec![(len - 1) << 3];
        step.extend(offset.to_le_bytes());
        step.extend(&value.to_le_bytes()[..usize::from(len)]);
        step
    };
    let mut probe = Vec::new();
    probe.extend(write(1, 0x14, 3));
    for (half, bits) in [(0, OFFERED & 0xffff_ffff), (1, OFFERED >> 32)] {
        probe.extend(write(4, 8, half));
        probe.extend(write(4, 12, bits));
    }
    probe.extend(write(1, 0x14, 11));
    probe.extend(write(2, 0x16, 0));
    for (register, address) in [(0x20, 0x1000), (0x28, 0x3000), (0x30, 0x4000)] {
        probe.extend(write(4, register, address));
        probe.extend(write(4, register + 4, 0));
    }
    probe.extend(write(2, 0x1c, 1));
    probe.extend(write(1, 0x14, 15));
    let mut again = probe.clone();
    again.extend(write(1, 0x14, 0));
    again.push(0xf0);
    again.extend(&probe);
    let address = [0x1b, 0, 0, 0x10, 0, 0, 0x80];
    let ports =
        [&address[..], &[0x1f, 4, 0], &[0x1b, 4, 0, 0xff, 0xff, 0xff, 0xff], &probe].concat();
    vec![probe, again, ports]
}
