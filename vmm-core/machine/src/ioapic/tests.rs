use bulkhead_hypervisor::recorder::Recorder;

use super::*;
use crate::irq::IrqLine;

struct Board {
    vm: Arc<Recorder>,
    ioapic: Arc<Ioapic>,
}

impl Board {
    fn new() -> Self {
        let vm = Recorder::new();
        Self { ioapic: Ioapic::new(vm.clone()), vm }
    }

    fn write(&self, index: u8, value: u32) {
        self.ioapic.write(REGISTER_SELECT, &u32::from(index).to_le_bytes());
        self.ioapic.write(REGISTER_WINDOW, &value.to_le_bytes());
    }

    fn read(&self, index: u8) -> u32 {
        let mut data = [0; 4];
        self.ioapic.write(REGISTER_SELECT, &u32::from(index).to_le_bytes());
        self.ioapic.read(REGISTER_WINDOW, &mut data);
        u32::from_le_bytes(data)
    }

    /// Programs a pin with a destination in the top byte, as drivers do: high half first.
    fn program(&self, pin: u8, destination: u8, low: u32) {
        self.write(INDEX_TABLE + 2 * pin + 1, u32::from(destination) << 24);
        self.write(INDEX_TABLE + 2 * pin, low);
    }

    fn line(&self, pin: u8) -> IrqLine {
        IrqLine::new(&self.ioapic, pin)
    }
}

const EDGE_41: u32 = 0x41;
const LEVEL_99: u32 = 0x8099;

#[test]
fn an_edge_sends_the_entrys_message_once() {
    let board = Board::new();
    board.program(4, 3, EDGE_41);
    board.line(4).pulse();
    let sent = Msi { address: 0xfee0_3000, data: 0x41 };
    assert_eq!(board.vm.take_messages(), [sent]);
}

#[test]
fn a_logical_destination_is_in_the_address() {
    let board = Board::new();
    board.program(4, 1, EDGE_41 | 1 << 11 | 1 << 8);
    board.line(4).pulse();
    assert_eq!(board.vm.take_messages(), [Msi { address: 0xfee0_1004, data: 0x141 }]);
}

#[test]
fn a_masked_pin_sends_nothing_and_an_edge_is_lost() {
    let board = Board::new();
    board.line(4).pulse();
    board.program(4, 0, EDGE_41);
    assert_eq!(board.vm.take_messages(), []);
}

#[test]
fn a_level_is_sent_again_only_after_its_end() {
    let board = Board::new();
    board.program(9, 0, LEVEL_99);
    board.line(9).set(true);
    board.line(9).set(true);
    assert_eq!(board.vm.take_messages().len(), 1);
    assert_eq!(board.read(INDEX_TABLE + 18) & 1 << 14, 1 << 14, "remote IRR shows");
    board.ioapic.end_of_interrupt(0x98);
    assert_eq!(board.vm.take_messages(), []);
    board.ioapic.end_of_interrupt(0x99);
    assert_eq!(board.vm.take_messages().len(), 1, "still asserted");
    board.line(9).set(false);
    board.ioapic.end_of_interrupt(0x99);
    assert_eq!(board.vm.take_messages(), []);
    assert_eq!(board.read(INDEX_TABLE + 18) & 1 << 14, 0);
}

#[test]
fn a_level_that_is_asserted_while_masked_is_sent_on_unmasking() {
    let board = Board::new();
    board.program(9, 0, LEVEL_99 | 1 << 16);
    board.line(9).set(true);
    assert_eq!(board.vm.take_messages(), []);
    board.program(9, 0, LEVEL_99);
    assert_eq!(board.vm.take_messages(), [Msi { address: 0xfee0_0000, data: 0x8099 }]);
}

#[test]
fn the_eoi_register_ends_an_interrupt_too() {
    let board = Board::new();
    board.program(9, 0, LEVEL_99);
    board.line(9).set(true);
    board.line(9).set(false);
    board.ioapic.write(REGISTER_EOI, &[0x99, 0, 0, 0]);
    board.line(9).set(true);
    assert_eq!(board.vm.take_messages().len(), 2);
}

#[test]
fn unmasked_entries_are_mirrored_into_the_routes() {
    let board = Board::new();
    board.program(9, 2, LEVEL_99);
    assert_eq!(board.vm.record().routes[&Gsi(9)], Msi { address: 0xfee0_2000, data: 0x8099 });
    board.program(9, 2, LEVEL_99 | 1 << 16);
    assert_eq!(board.vm.record().routes[&Gsi(9)].data, 0x8099, "masking keeps the mirror");
}

#[test]
fn a_masked_entry_costs_no_change_of_routes() {
    let board = Board::new();
    for pin in 0..IOAPIC_PINS {
        board.program(pin, 0, EDGE_41 | 1 << 16);
    }
    assert_eq!(board.vm.record().batches, 0);
}

#[test]
fn an_entry_reads_back_without_the_bits_that_are_the_hardwares() {
    let board = Board::new();
    board.program(0, 0xab, 0xffff_ffff);
    assert_eq!(board.read(INDEX_TABLE), 0x0001_afff);
    assert_eq!(board.read(INDEX_TABLE + 1), 0xab00_0000);
}

#[test]
fn the_version_names_24_pins() {
    assert_eq!(Board::new().read(INDEX_VERSION), 0x0017_0020);
}

#[test]
fn a_reset_masks_every_pin_and_clears_the_mirror() {
    let board = Board::new();
    board.program(9, 0, LEVEL_99);
    board.ioapic.reset();
    assert_eq!(board.read(INDEX_TABLE + 18), 0x1_0000);
    assert_eq!(board.vm.record().routes[&Gsi(9)].data, 0);
}
