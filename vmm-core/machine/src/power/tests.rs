use bulkhead_hypervisor::recorder::Recorder;

use super::*;
use crate::ioapic::Ioapic;

struct Board {
    vm: Arc<Recorder>,
    power: Arc<Power>,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Board {
    /// The interrupt controller's pin 9 is level-triggered and sends vector 0x99.
    fn new() -> Self {
        let vm = Recorder::new();
        let ioapic = Ioapic::new(vm.clone());
        ioapic.write(0, &[0x10 + 18]);
        ioapic.write(0x10, &0x8099u32.to_le_bytes());
        let asked = Arc::<Mutex<Vec<Request>>>::default();
        let sink = Arc::clone(&asked);
        let requests: Requests = Arc::new(move |request| hold(&sink).push(request));
        let power = Power::new(IrqLine::new(&ioapic, 9), requests);
        Self { vm, power, asked }
    }

    fn port(&self, block: PowerBlock) -> PowerPort {
        PowerPort(Arc::clone(&self.power), block)
    }

    fn read16(&self, block: PowerBlock, offset: u64) -> u16 {
        let mut data = [0xff; 2];
        self.port(block).read(offset, &mut data);
        u16::from_le_bytes(data)
    }
}

#[test]
fn a_button_that_is_enabled_interrupts_until_its_status_is_cleared() {
    let board = Board::new();
    board.port(PowerBlock::GeneralEvents).write(2, &[1, 0]);
    board.power.press(Button::Power);
    assert_eq!(board.vm.take_messages().len(), 1);
    assert_eq!(board.read16(PowerBlock::GeneralEvents, 0), 1);
    board.port(PowerBlock::GeneralEvents).write(0, &[1, 0]);
    assert_eq!(board.read16(PowerBlock::GeneralEvents, 0), 0);
    assert!(board.vm.take_messages().is_empty());
}

#[test]
fn a_button_pressed_before_it_is_enabled_is_not_lost() {
    let board = Board::new();
    board.power.press(Button::Sleep);
    assert!(board.vm.take_messages().is_empty());
    board.port(PowerBlock::GeneralEvents).write(2, &[3]);
    assert_eq!(board.vm.take_messages().len(), 1);
}

#[test]
fn only_the_sleep_type_for_off_switches_off() {
    let board = Board::new();
    let control = board.port(PowerBlock::Control);
    let word = |sleep_type: u16| (sleep_type << 10 | SLEEP_ENABLE).to_le_bytes();
    control.write(0, &word(3));
    control.write(0, &(5u16 << 10).to_le_bytes());
    assert!(hold(&board.asked).is_empty());
    control.write(0, &word(5));
    assert_eq!(*hold(&board.asked), [Request::PowerOff]);
}

#[test]
fn acpi_is_always_on() {
    let board = Board::new();
    board.port(PowerBlock::Control).write(0, &[0, 0]);
    assert_eq!(board.read16(PowerBlock::Control, 0), 1);
}

#[test]
fn status_and_enable_can_be_written_by_the_byte_or_both_at_once() {
    let board = Board::new();
    board.port(PowerBlock::Events).write(0, &[0, 0, 0x21, 0x07]);
    assert_eq!(board.read16(PowerBlock::Events, 2), 0x0721);
    board.port(PowerBlock::Events).write(3, &[0x03]);
    assert_eq!(board.read16(PowerBlock::Events, 2), 0x0321);
    assert_eq!(board.read16(PowerBlock::Events, 0), 0);
}
