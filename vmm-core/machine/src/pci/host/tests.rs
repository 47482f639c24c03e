use bulkhead_hypervisor::recorder::Recorder;
use proptest::prelude::*;

use super::super::config::{BarSpec, ClassCode, ConfigSpace, Identity};
use super::super::msix::{MsixPlacement, MsixTable};
use super::*;

const WINDOW: u64 = 0xc000_0000;

/// A function with one BAR: table at 0, pending bits at 0x800, a scratch byte elsewhere.
struct Function {
    config: Mutex<ConfigSpace>,
    table: MsixTable,
    scratch: Mutex<u8>,
    moves: Mutex<Vec<Option<u64>>>,
    resets: Mutex<u32>,
}

impl Function {
    fn new() -> Arc<Self> {
        let class = ClassCode { class: 1, subclass: 0x80, interface: 0 };
        let identity = Identity {
            vendor: 1,
            device: 2,
            revision: 3,
            class,
            subsystem_vendor: 4,
            subsystem: 5,
        };
        let mut config = ConfigSpace::new(identity);
        config.add_bar(BarSpec { index: BarIndex::Zero, size: 0x1000 }).unwrap();
        let place = MsixPlacement {
            vectors: 2,
            bar: BarIndex::Zero,
            table_offset: 0,
            pending_offset: 0x800,
        };
        config.add_msix(place).unwrap();
        Arc::new(Self {
            config: Mutex::new(config),
            table: MsixTable::new(Recorder::new(), 2).unwrap(),
            scratch: Mutex::default(),
            moves: Mutex::default(),
            resets: Mutex::default(),
        })
    }
}

impl PciDevice for Function {
    fn config(&self) -> &Mutex<ConfigSpace> {
        &self.config
    }
    fn msix(&self) -> Option<&MsixTable> {
        Some(&self.table)
    }
    fn bar_read(&self, _bar: BarIndex, offset: u64, data: &mut [u8]) {
        match offset {
            0..0x800 => self.table.table_read(offset, data),
            0x800..0x900 => self.table.pending_read(offset - 0x800, data),
            _ => data[0] = *hold(&self.scratch),
        }
    }
    fn bar_write(&self, _bar: BarIndex, offset: u64, data: &[u8]) {
        match offset {
            0..0x800 => self.table.table_write(offset, data),
            _ => *hold(&self.scratch) = data[0],
        }
    }
    fn bar_moved(&self, _bar: BarIndex, address: Option<u64>) {
        hold(&self.moves).push(address);
    }
    fn reset(&self) {
        *hold(&self.resets) += 1;
    }
}

struct Board {
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    host: Arc<PciHost>,
    function: Arc<Function>,
}

const ECAM: u64 = 0xe000_0000;

impl Board {
    fn new() -> Self {
        let (mmio, pio) = (Bus::new(), Bus::new());
        let window = BusRange::new(WINDOW, 0x1000_0000).unwrap();
        let host = PciHost::new(Arc::clone(&mmio), window);
        let function = Function::new();
        host.plug(function.clone()).unwrap();
        let ports = Arc::<ConfigPorts>::default();
        let claim = |bus: &Bus, first, len, device: Arc<dyn BusDevice>| {
            bus.claim(BusRange::new(first, len).unwrap(), device).unwrap();
        };
        claim(&mmio, ECAM, ECAM_LEN, Arc::new(Ecam(Arc::clone(&host))));
        claim(&pio, 0xcf8, 1, Arc::new(ConfigAddress(Arc::clone(&ports))));
        claim(&pio, 0xcfc, 4, Arc::new(ConfigData { ports, host: Arc::clone(&host) }));
        Self { mmio, pio, host, function }
    }

    fn read32(&self, bus: &Bus, address: u64) -> u32 {
        let mut data = [0; 4];
        bus.read(address, &mut data);
        u32::from_le_bytes(data)
    }

    fn decode_on(&self) {
        self.mmio.write(ECAM + 4, &[2, 0]);
    }
}

#[test]
fn both_ways_lead_to_the_same_configuration_space() {
    let board = Board::new();
    assert_eq!(board.read32(&board.mmio, ECAM), 0x0002_0001);
    board.pio.write(0xcf8, &0x8000_0000u32.to_le_bytes());
    assert_eq!(board.read32(&board.pio, 0xcfc), 0x0002_0001);
    let mut device = [0; 2];
    board.pio.read(0xcfe, &mut device);
    assert_eq!(device, [2, 0]);
}

#[test]
fn empty_slots_and_other_functions_read_as_ones() {
    let board = Board::new();
    assert_eq!(board.read32(&board.mmio, ECAM + ECAM_SLOT), u32::MAX);
    assert_eq!(board.read32(&board.mmio, ECAM + ECAM_FUNCTION), u32::MAX);
    for address in [0x8000_0800u32, 0x8000_0100, 0x8001_0000, 0x0000_0000] {
        board.pio.write(0xcf8, &address.to_le_bytes());
        assert_eq!(board.read32(&board.pio, 0xcfc), u32::MAX, "{address:#x}");
    }
}

#[test]
fn the_address_port_takes_whole_words_only() {
    let board = Board::new();
    board.pio.write(0xcf8, &0x8000_1234u32.to_le_bytes());
    board.pio.write(0xcf8, &[0xff]);
    assert_eq!(board.read32(&board.pio, 0xcf8), 0x8000_1234);
}

#[test]
fn a_bar_answers_where_firmware_put_it_and_where_the_guest_moves_it() {
    let board = Board::new();
    assert_eq!(board.read32(&board.mmio, WINDOW + 0x900), u32::MAX);
    board.decode_on();
    board.mmio.write(WINDOW + 0x900, &[0x42]);
    assert_eq!(board.read32(&board.mmio, WINDOW + 0x900) & 0xff, 0x42);
    board.mmio.write(ECAM + 0x10, &0x12_3450_0000u64.to_le_bytes());
    assert_eq!(board.read32(&board.mmio, WINDOW + 0x900), u32::MAX);
    assert_eq!(board.read32(&board.mmio, 0x12_3450_0900) & 0xff, 0x42);
    assert_eq!(*hold(&board.function.moves), [Some(WINDOW), Some(0x12_3450_0000)]);
}

#[test]
fn a_bar_on_top_of_another_device_is_lost_until_it_is_moved_away() {
    let board = Board::new();
    board.decode_on();
    board.mmio.write(ECAM + 0x10, &(ECAM + 0x1000).to_le_bytes());
    assert_eq!(board.read32(&board.mmio, ECAM), 0x0002_0001, "configuration space still answers");
    board.mmio.write(ECAM + 0x10, &WINDOW.to_le_bytes());
    board.mmio.write(WINDOW + 0x900, &[0x42]);
    assert_eq!(*hold(&board.function.scratch), 0x42);
}

#[test]
fn two_functions_get_bars_that_do_not_overlap() {
    let board = Board::new();
    let second = Function::new();
    assert_eq!(board.host.plug(second.clone()), Ok(Slot(1)));
    board.decode_on();
    board.mmio.write(ECAM + ECAM_SLOT + 4, &[2, 0]);
    assert_eq!(*hold(&second.moves), [Some(WINDOW + 0x1000)]);
}

#[test]
fn the_control_word_of_msix_reaches_the_table() {
    let board = Board::new();
    board.decode_on();
    board.mmio.write(WINDOW + 12, &0u32.to_le_bytes());
    board.function.table.signal(0);
    let mut pending = [0; 8];
    board.mmio.read(WINDOW + 0x800, &mut pending);
    assert_eq!(pending[0], 1);
    board.mmio.write(ECAM + 0x42, &0x8000u16.to_le_bytes());
    board.mmio.read(WINDOW + 0x800, &mut pending);
    assert_eq!(pending[0], 0);
}

#[test]
fn a_reset_puts_the_bar_back_and_tells_the_function() {
    let board = Board::new();
    board.decode_on();
    board.mmio.write(ECAM + 0x10, &0xd000_0000u64.to_le_bytes());
    board.host.reset();
    assert_eq!(board.read32(&board.mmio, 0xd000_0900), u32::MAX);
    assert_eq!(*hold(&board.function.resets), 1);
    board.decode_on();
    assert_eq!(hold(&board.function.moves).last(), Some(&Some(WINDOW)));
}

#[test]
fn a_full_bus_and_a_full_window_are_named() {
    let board = Board::new();
    let plugged = (0..40).map(|_| board.host.plug(Function::new())).filter(Result::is_ok).count();
    assert_eq!(plugged, 31);
    assert_eq!(board.host.plug(Function::new()), Err(PlugError::NoSlot));
    let tiny = PciHost::new(Bus::new(), BusRange::new(WINDOW, 0x800).unwrap());
    assert_eq!(tiny.plug(Function::new()), Err(PlugError::NoRoom(0x1000)));
}

fn places() -> impl Strategy<Value = u64> {
    prop_oneof![
        ECAM..ECAM + 0x140,
        ECAM..ECAM + ECAM_LEN,
        WINDOW..WINDOW + 0x1008,
        0xcf0..0xd08u64,
        any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn no_access_of_any_width_anywhere_panics(
        accesses in proptest::collection::vec((any::<bool>(), any::<bool>(), places(), any::<u64>(), 1..=8usize), 1..300)
    ) {
        let board = Board::new();
        for (ports, write, address, value, len) in accesses {
            let bus = if ports { &board.pio } else { &board.mmio };
            let mut data = value.to_le_bytes();
            match write {
                true => bus.write(address, &data[..len]),
                false => bus.read(address, &mut data[..len]),
            }
        }
        // Whatever it did, the function is still who it is.
        board.host.reset();
        prop_assert_eq!(board.read32(&board.mmio, ECAM), 0x0002_0001);
    }
}
