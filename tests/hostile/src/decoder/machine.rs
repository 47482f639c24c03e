//! The machine's own registers (ACPI, IOAPIC, UART, RTC, reset) under any access of any width.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bulkhead_hypervisor::recorder::Recorder;
use bulkhead_machine::bus::{Bus, BusDevice, BusRange};
use bulkhead_machine::ioapic::Ioapic;
use bulkhead_machine::irq::IrqLine;
use bulkhead_machine::pm_timer::PmTimer;
use bulkhead_machine::power::{Button, Power, PowerBlock, PowerPort};
use bulkhead_machine::reset::{KeyboardReset, ResetRegister};
use bulkhead_machine::rtc::Rtc;
use bulkhead_machine::uart::Uart;
use bulkhead_machine::{Requests, layout};

use super::Verdict;
use crate::draw::Draw;

/// Accesses of one script.
const MOST_ACCESSES: usize = 400;

/// What an IOAPIC of 24 pins says it is, at register 1.
const IOAPIC_VERSION: u32 = 0x0017_0020;

/// Its devices, ports and addresses on one bus.
pub(super) struct Board {
    pub(super) bus: Arc<Bus>,
    pub(super) ioapic: Arc<Ioapic>,
    power: Arc<Power>,
    uart: Arc<Uart>,
    asked: Arc<AtomicU32>,
}

impl Board {
    pub(super) fn new() -> Self {
        let ioapic = Ioapic::new(Recorder::new());
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let requests: Requests = Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let power = Power::new(IrqLine::new(&ioapic, layout::SCI_PIN), Arc::clone(&requests));
        let uart = Uart::new(IrqLine::new(&ioapic, layout::COM1_PIN), Arc::new(|| {}));
        let bus = Bus::new();
        let put = |first: u64, len: u64, device: Arc<dyn BusDevice>| {
            let range = BusRange::new(first, len).expect("a range");
            bus.claim(range, device).expect("no two devices at one place");
        };
        let port = |block| Arc::new(PowerPort(Arc::clone(&power), block));
        put(layout::IOAPIC, layout::IOAPIC_LEN, ioapic.clone());
        put(layout::COM1.into(), layout::COM1_LEN.into(), uart.clone());
        put(layout::RTC.into(), 2, Arc::new(Rtc::of_host()));
        let keyboard = KeyboardReset::new(Arc::clone(&requests));
        put(layout::KEYBOARD_COMMAND.into(), 1, Arc::new(keyboard));
        put(layout::RESET.into(), 1, Arc::new(ResetRegister(requests)));
        put(layout::PM1_EVENT.into(), 4, port(PowerBlock::Events));
        put(layout::PM1_CONTROL.into(), 2, port(PowerBlock::Control));
        put(layout::GPE0.into(), 4, port(PowerBlock::GeneralEvents));
        put(layout::PM_TIMER.into(), 4, Arc::new(PmTimer::new()));
        Self { bus, ioapic, power, uart, asked }
    }
}

/// Plays accesses; afterwards every device still answers. Accepted: the guest asked for a reset or a
/// power-off.
pub fn run(bytes: &[u8]) -> Verdict {
    let board = Board::new();
    let mut draw = Draw::new(bytes);
    for _ in 0..MOST_ACCESSES {
        if draw.is_over() {
            break;
        }
        access(&board, &mut draw);
    }
    board.power.reset();
    board.ioapic.reset();
    board.uart.reset();
    let mut version = [0; 4];
    board.bus.write(layout::IOAPIC, &[1, 0, 0, 0]);
    board.bus.read(layout::IOAPIC + 0x10, &mut version);
    assert_eq!(u32::from_le_bytes(version), IOAPIC_VERSION);
    Verdict::accepted_if(board.asked.load(Ordering::Relaxed) > 0)
}

fn access(board: &Board, draw: &mut Draw<'_>) {
    let places: [u64; 10] = [
        layout::IOAPIC,
        layout::IOAPIC + 0x10,
        layout::COM1.into(),
        layout::RTC.into(),
        layout::KEYBOARD_COMMAND.into(),
        layout::RESET.into(),
        layout::PM1_EVENT.into(),
        layout::PM1_CONTROL.into(),
        layout::GPE0.into(),
        layout::PM_TIMER.into(),
    ];
    let act = draw.byte();
    let address = places[usize::from(act % 10)] + u64::from(draw.byte() % 0x14);
    let len = 1 + usize::from(draw.byte() % 8);
    let mut data = [0; 8];
    let script = draw.bytes(len);
    data[..script.len()].copy_from_slice(script);
    match act / 10 % 8 {
        0..=3 => board.bus.write(address, &data[..len]),
        4 | 5 => board.bus.read(address, &mut data[..len]),
        6 => drop(board.uart.input(&data[..len])),
        _ if data[0] & 1 == 0 => board.ioapic.end_of_interrupt(data[1]),
        _ => board.power.press(Button::Power),
    }
}

/// A reset by each of the two registers, and a power-off.
pub fn samples() -> Vec<Vec<u8>> {
    vec![
        vec![4, 0, 0, 0xfe],
        vec![5, 0, 0, 0x0e, 2, 3, 0, 0x80, 40, 0, 0],
        vec![7, 0, 1, 0x00, 0x34, 7, 0, 1, 0x00, 0x3c, 6, 2, 1, 0xff, 0xff],
    ]
}
